#include "sketchgrad/tests/support/update_comparisons.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/optim/state_memory.h"
#include "sketchgrad/tests/support/compare_devices.h"

namespace sketchgrad::test {

namespace {

constexpr kernels::Accumulate kFirst{0.9f, 0.1f, false};
constexpr kernels::Accumulate kSecond{0.99f, 0.01f, true};
const kernels::UpdateRule kAdam = kernels::AdamRule{0.01f, 1.3f, 1e-6f, 0.999f};

// Elements know nothing of each other: products and sums may be fused on one device alone.
constexpr Tolerance kElements{2e-6, 1e-6};
// Sums over rows and columns in another order, over several steps.
constexpr Tolerance kSketched{0.0, 5e-5};
// Where devices differ in the last bit of a value, now and then one rounds it up, the other down.
constexpr Tolerance kRounded{0.1, 1e-2};

}  // namespace

void compare_dense_steps(Device other) {
  using kernels::UpdateRule;
  constexpr int64_t kRows = 40;
  const UpdateRule rules[] = {kernels::SgdRule{0.1f}, kernels::MomentumRule{0.1f, 1.0f, 0.9f},
                              kernels::RootScaledRule{0.1f, 1e-3f}, kAdam,
                              kernels::Sm3Rule{0.1f, 1e-3f}};
  for (const UpdateRule& rule : rules) {
    for (const int64_t dim : {1, 7, 33, 300}) {
      for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{11}, kRows}) {
        CAPTURE(rule.index());
        CAPTURE(dim);
        CAPTURE(count);
        Draw draw(21);
        std::vector<int32_t> ids = draw.ids(count, kRows);
        if (count == 11) ids[5] = -1;
        const std::vector<float> gradients = draw.normals(Framed::floats(count, dim));
        const int64_t floats = Framed::floats(kRows, dim);
        const std::vector<float> parameters = draw.normals(floats), moments1 = draw.normals(floats),
                                 moments2 = draw.floats(floats, 0.1f, 1.0f);
        compare_with_cpu(other, [&](Device device) {
          // All rows go without ids.
          const Tensor id_tensor = on(device, ids.empty() ? std::vector<int32_t>{0} : ids);
          const int32_t* const id_data = count < kRows ? id_tensor.data<int32_t>() : nullptr;
          const Framed gradient(device, gradients, count, dim);
          Outputs outputs;
          for (const bool dense1 : {false, true}) {
            for (const bool dense2 : {false, true}) {
              // Without a second moment the value is the gradient, of which there is no root.
              if (!dense2 && rule.index() >= 2) continue;
              const Framed parameter(device, parameters, kRows, dim);
              const Framed moment1(device, moments1, kRows, dim);
              const Framed moment2(device, moments2, kRows, dim);
              kernels::StateAccess first = kernels::NoState{}, second = kernels::NoState{};
              if (dense1) first = kernels::DenseState{moment1.matrix(), kFirst};
              if (dense2) second = kernels::DenseState{moment2.matrix(), kSecond};
              kernels::update_rows(exec_on(device), rule, first, second, id_data, gradient.matrix(),
                                   parameter.matrix());
              outputs.push_back(output("parameter", parameter.storage(), kElements));
              outputs.push_back(output("first", moment1.storage(), kElements));
              outputs.push_back(output("second", moment2.storage(), kElements));
            }
          }
          return outputs;
        });
      }
    }
  }
}

namespace {

bool rounds(const std::string& memory) {
  return memory == "int8" || memory.find("bf16") != std::string::npos;
}

struct Case {
  std::string first;
  std::string second;
  int64_t rows;
  int64_t dim;
  bool decay_skipped = false;
};

// One step's active rows and their gradient.
struct Step {
  bool all = false;  // of the table, as by a dense gradient: the ids do not matter
  std::vector<int32_t> ids;
  std::vector<float> gradient;
};

// A table with its two moments.
class Table {
 public:
  Table(Device device, const Case& size)
      : device_(device),
        dim_(size.dim),
        rounds_(rounds(size.first) || rounds(size.second)),
        value_(on(device, Draw(22).normals(size.rows * size.dim), {size.rows, size.dim})),
        first_(make(size, size.first, MomentRole::first, kFirst)),
        second_(make(size, size.second, MomentRole::second, kSecond)),
        last_steps_(size.decay_skipped
                        ? on(device, std::vector<int32_t>(static_cast<size_t>(size.rows)))
                        : Tensor()) {}

  void step(const Step& step, int64_t number) {
    const auto count = static_cast<int64_t>(step.ids.size());
    const Tensor gradient = on(device_, step.gradient, {count, dim_});
    const Tensor ids = on(device_, step.ids.empty() ? std::vector<int32_t>{0} : step.ids);
    StepRows rows(exec_on(device_), device_, step.all ? nullptr : ids.data<int32_t>(),
                  gradient.matrix(), number);
    kernels::Accumulate rule1 = kFirst, rule2 = kSecond;
    if (last_steps_.defined()) {
      rule1.decays = rows.decays_since(last_steps_, rule1.decay);
      rule2.decays = rows.decays_since(last_steps_, rule2.decay);
    }
    const kernels::StateAccess first = first_->begin(rows, rule1);
    const kernels::StateAccess second = second_->begin(rows, rule2);
    kernels::update_rows(rows.exec(), kAdam, first, second, rows.ids(), rows.gradient(),
                         value_.matrix());
    first_->end(rows);
    second_->end(rows);
    if (last_steps_.defined()) {
      kernels::set_last_steps(rows.exec(), rows.ids(), count, number, last_steps_.data<int32_t>());
    }
  }

  int64_t fold() { return first_->fold() + second_->fold(); }

  // Parameter and all state but what is rounded to few bits.
  void add_outputs(const std::string& prefix, Outputs& outputs) const {
    outputs.push_back(output(prefix + "parameter", value_, rounds_ ? kRounded : kSketched));
    for (const auto* memory : {first_.get(), second_.get()}) {
      const char* moment = memory == first_.get() ? "first." : "second.";
      for (const auto& [name, tensor] : memory->tensors()) {
        // Of what is rounded, the scales alone.
        if (tensor.dtype() != DType::float32) continue;
        const Tolerance tolerance = name == "scales" ? kRounded : kSketched;
        outputs.push_back(output(prefix + moment + name, tensor, tolerance));
      }
    }
  }

 private:
  std::unique_ptr<StateMemory> make(const Case& size, const std::string& spec, MomentRole role,
                                    const kernels::Accumulate& accumulate) const {
    return make_memory(parse_memory(spec, role),
                       {"table", role, accumulate, size.rows, size.dim, 5, device_});
  }

  Device device_;
  int64_t dim_;
  bool rounds_;
  Tensor value_;
  std::unique_ptr<StateMemory> first_;
  std::unique_ptr<StateMemory> second_;
  Tensor last_steps_;
};

// Some rows, one, none, all, and some again.
std::vector<Step> draw_steps(int64_t rows, int64_t dim) {
  Draw draw(23);
  std::vector<Step> steps;
  for (const int64_t count : {rows / 2, int64_t{1}, int64_t{0}, rows, rows / 3}) {
    steps.push_back({count == rows, draw.ids(count, rows), draw.normals(count * dim)});
  }
  return steps;
}

void compare_steps(Device other, const Case& size) {
  CAPTURE(size.first);
  CAPTURE(size.second);
  CAPTURE(size.rows);
  CAPTURE(size.dim);
  const std::vector<Step> steps = draw_steps(size.rows, size.dim);
  compare_with_cpu(other, [&](Device device) {
    Table table(device, size);
    Outputs outputs;
    for (size_t i = 0; i < steps.size(); ++i) {
      table.step(steps[i], static_cast<int64_t>(i) + 1);
      table.add_outputs(fmt::format("step {}: ", i + 1), outputs);
    }
    return outputs;
  });
}

}  // namespace

void compare_readings(Device other) {
  for (const char* geometry : {"depth=3,width=9", "depth=2,width=40"}) {
    for (const int64_t dim : {1, 7, 33, 72}) {
      for (const char* reading :
           {"requery", "own_delta", "mean_delta", "bucket_local", "linear", "trusted", "wiener"}) {
        compare_steps(
            other, {fmt::format("sketch:0.5,{},reading={}", geometry, reading), "dense", 30, dim});
      }
      for (const char* reading :
           {"requery", "own_delta", "mean_delta", "bucket_local", "linear", "row_scaled"}) {
        compare_steps(
            other, {"dense", fmt::format("sketch:0.5,{},reading={}", geometry, reading), 30, dim});
      }
    }
  }
  // Cleaning.
  compare_steps(other, {"sketch:0.5,width=6,depth=1,reading=wiener",
                        "sketch:0.5,width=6,depth=1,reading=row_scaled,clean=0.5/2", 30, 33});
}

void compare_sketched_pairs(Device other) {
  for (const int64_t dim : {1, 7, 33, 64, 200, 257, 640, 1028}) {
    compare_steps(other, {"sketch:0.5,width=12,depth=1,reading=wiener",
                          "sketch:0.5,width=12,depth=1,reading=row_scaled", 40, dim});
    compare_steps(other, {"sketch:0.5,width=12,depth=1,reading=wiener",
                          "sketch:0.5,width=7,depth=1,reading=row_scaled", 20, dim});
  }
  for (const int64_t dim : {33, 72}) {
    compare_steps(other, {"sketch:0.5,width=12,depth=1,reading=requery",
                          "sketch:0.5,width=12,depth=1,reading=requery", 40, dim});
    compare_steps(other, {"sketch:0.5,width=12,depth=3,reading=requery",
                          "sketch:0.5,width=12,depth=3,reading=mean_delta", 40, dim});
  }
  // Of blocked hashing, where the defaults are.
  compare_steps(other, {"sketch:0.2,width=1030", "sketch:0.2,width=1030", 3000, 16});
}

void compare_geometries(Device other) {
  for (int depth = 1; depth <= kernels::kMaxSketchDepth; ++depth) {
    compare_steps(other, {fmt::format("sketch:0.5,width=9,depth={},reading=own_delta", depth),
                          "dense", 30, 12});
  }
  compare_steps(other, {"sketch:0.5,width=1,depth=1,reading=wiener",
                        "sketch:0.5,width=1,depth=1,reading=row_scaled", 150, 72});
}

void compare_memories(Device other) {
  for (const int64_t dim : {1, 7, 33, 72, 300, 1028}) {
    for (const char* second : {"rowwise", "rank1", "rank1:l2", "sm3", "sm3:1", "bf16", "int8"}) {
      compare_steps(other, {"dense", second, 30, dim});
      compare_steps(other, {"sketch:0.5,width=12,depth=1,reading=wiener", second, 30, dim});
    }
    for (const char* first : {"bf16", "int8"}) {
      compare_steps(other, {first, "rank1", 30, dim});
      compare_steps(other, {"rank1:l2", first, 30, dim});
      compare_steps(other, {first, "sketch:0.5,width=9,depth=3,reading=mean_delta", 30, dim});
      compare_steps(other, {first, first, 30, dim});
    }
  }
  compare_steps(other, {"banded:0.3", "banded:0.3", 300, 72});
  for (const auto& [first, second] :
       {std::pair("dense", "dense"), std::pair("dense", "rowwise"), std::pair("dense", "rank1"),
        std::pair("rank1:l2", "rank1:l2"), std::pair("bf16", "int8"),
        std::pair("sketch:0.3", "sketch:0.3"), std::pair("hybrid:0.5", "hybrid:0.5"),
        std::pair("sketch:0.3,reading=requery", "sketch:0.3,reading=mean_delta")}) {
    compare_steps(other, {first, second, 300, 33, true});
  }
  for (const int64_t dim : {7, 33, 257}) {
    compare_steps(other, {"hybrid:0.9,exact=0.6", "hybrid:0.9,exact=0.6", 400, dim});
    compare_steps(other, {"hybrid:0.9", "banded:0.9,exact=0.3", 400, dim});
  }
  for (const char* reading : {"requery", "own_delta", "mean_delta", "bucket_local", "linear"}) {
    const std::string memory = fmt::format("hybrid:0.5,reading={}", reading);
    compare_steps(other, {memory, memory, 200, 33});
  }
  for (const char* memory :
       {"sketch:0.3,cells=bf16", "sketch:0.3,width=12,depth=3,reading=mean_delta,cells=bf16",
        "sketch:0.3,width=12,depth=2,reading=requery,cells=bf16",
        "sketch:0.3,width=7,depth=1,reading=linear,cells=bf16"}) {
    for (const int64_t dim : {7, 33, 200}) compare_steps(other, {memory, memory, 60, dim});
  }
  compare_steps(other, {"dense", "rank1", 1000, 16});
  compare_steps(other, {"rank1:l2", "rank1:l2", 1000, 16});
  compare_steps(other, {"dense", "sm3", 1000, 16});
}

void compare_folding(Device other) {
  const std::vector<Case> cases{
      {"sketch:0.5,width=12,reading=wiener", "sketch:0.5,width=12,reading=row_scaled", 30, 33},
      {"sketch:0.5,width=4,reading=mean_delta", "sketch:0.5,width=6,reading=linear", 30, 7},
      {"sketch:0.5,width=7,reading=mean_delta", "banded:0.5,width=5", 30, 7},
      {"dense", "sketch:0.5,width=1056", 3000, 8},
      {"banded:0.5,width=6", "banded:0.5,width=6", 30, 72},
      {"dense", "sketch:0.5,width=2112", 3000, 8},
      {"hybrid:0.6", "hybrid:0.6,reading=own_delta", 300, 33},
      {"sketch:0.5,width=12,cells=bf16", "sketch:0.5,width=12,cells=bf16,clean=0.5/2", 30, 33}};
  for (const Case& size : cases) {
    CAPTURE(size.first);
    CAPTURE(size.second);
    const std::vector<Step> steps = draw_steps(size.rows, size.dim);
    compare_with_cpu(other, [&](Device device) {
      Table table(device, size);
      Outputs outputs;
      table.step(steps[0], 1);
      outputs.push_back(output("freed", static_cast<double>(table.fold())));
      table.add_outputs("folded: ", outputs);
      table.step(steps[3], 2);
      table.add_outputs("stepped: ", outputs);
      return outputs;
    });
  }
}

void compare_padded_steps(Device other) {
  for (const char* second_width : {"6", "7"}) {  // one plan, and two
    for (const int64_t dim : {33, 40}) {
      CAPTURE(second_width);
      CAPTURE(dim);
      const Case size{"sketch:0.5,width=6,depth=1,reading=wiener",
                      fmt::format("sketch:0.5,width={},depth=1,reading=row_scaled", second_width),
                      20, dim};
      const std::vector<int32_t> ids{1, 4, 5, 9, 13};
      const Step plain{false, ids, Draw(24).normals(static_cast<int64_t>(ids.size()) * dim)};
      Step padded = plain;
      padded.ids.resize(9, -1);
      padded.gradient.resize(static_cast<size_t>(9 * dim), NAN);
      compare_with_cpu(other, [&](Device device) {
        Table table(device, size);
        Outputs outputs;
        for (int64_t number = 1; number <= 3; ++number) {
          // The CPU makes no such plans.
          table.step(device == kCpu ? plain : padded, number);
          table.add_outputs(fmt::format("step {}: ", number), outputs);
        }
        return outputs;
      });
    }
  }
}

}  // namespace sketchgrad::test
