#include "sketchgrad/kernels/update_lanes.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "sketchgrad/optim/state_memory.h"
#include "sketchgrad/tests/support/emulated_warp.h"

// The GPU's sketched step on an emulated warp, against the CPU's walk (which
// sketch_memory_test.cpp compares with transcriptions of the algorithms).
namespace sketchgrad::test {
namespace {

using kernels::ConstMatrix;
using kernels::Matrix;

struct Case {
  const char* first;
  const char* second;
  int64_t rows;
  int64_t dim;
};

// A table, its two moments and the steps they take.
class Table {
 public:
  Table(const Case& size, uint64_t hash_seed)
      : size_(size), value_(Tensor::zeros({size.rows, size.dim}, {Category::parameter, "w"})) {
    first_ = make(size.first, MomentRole::first, {0.9f, 0.1f, false}, hash_seed);
    second_ = make(size.second, MomentRole::second, {0.99f, 0.01f, true}, hash_seed);
  }

  template <class Update>
  void step(const std::vector<int32_t>& ids, const std::vector<float>& gradient, int64_t number,
            const Update& update) {
    const auto count = static_cast<int64_t>(gradient.size()) / size_.dim;
    StepRows rows(value_.exec(), kCpu, ids.empty() ? nullptr : ids.data(),
                  kernels::contiguous(gradient.data(), count, size_.dim), number);
    const kernels::StateAccess first = first_->begin(rows, {0.9f, 0.1f, false});
    const kernels::StateAccess second = second_->begin(rows, {0.99f, 0.01f, true});
    update(rows, first, second, value_.matrix());
    first_->end(rows);
    second_->end(rows);
  }

  // Parameter and all state.
  std::vector<std::vector<float>> tensors() const {
    std::vector<std::vector<float>> result{value_.to_vector<float>()};
    for (const auto* memory : {first_.get(), second_.get()}) {
      for (const auto& [name, tensor] : memory->tensors()) {
        if (tensor.dtype() == DType::float32) {
          result.push_back(tensor.to_vector<float>());
        } else {
          const std::vector<int32_t> whole = tensor.to_vector<int32_t>();
          result.emplace_back(whole.begin(), whole.end());
        }
      }
    }
    return result;
  }

 private:
  std::unique_ptr<StateMemory> make(const char* spec, MomentRole role,
                                    const kernels::Accumulate& accumulate,
                                    uint64_t hash_seed) const {
    return make_memory(parse_memory(spec, role),
                       {"table", role, accumulate, size_.rows, size_.dim, hash_seed, kCpu});
  }

  Case size_;
  Tensor value_;
  std::unique_ptr<StateMemory> first_;
  std::unique_ptr<StateMemory> second_;
};

const kernels::UpdateRule kAdam = kernels::AdamRule{0.01f, 1.3f, 1e-6f, 0.999f};

void update_on_cpu(const StepRows& rows, const kernels::StateAccess& first,
                   const kernels::StateAccess& second, Matrix parameter) {
  kernels::update_rows(rows.exec(), kAdam, first, second, rows.ids(), rows.gradient(), parameter);
}

struct UpdateByLanes {
  uint32_t order_seed;
  void operator()(const StepRows& rows, const kernels::StateAccess& first,
                  const kernels::StateAccess& second, Matrix parameter) const {
    kernels::update_pieces_by_lanes(EmulatedPolicy{{}, order_seed}, rows.exec(), kAdam, first,
                                    second, rows.ids(), rows.gradient(), parameter);
  }
};

void check_close(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0.0f;
  for (const float value : b) largest = std::max(largest, std::abs(value));
  float error = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) error = std::max(error, std::abs(a[i] - b[i]));
  CHECK(error <= 2e-5f * largest);
}

// Some rows, one row, no row, all rows; the last by a dense gradient.
std::vector<std::vector<int32_t>> random_steps(int64_t rows, std::mt19937& random) {
  std::vector<std::vector<int32_t>> steps;
  for (const int64_t count : {rows / 2, int64_t{1}, int64_t{0}, rows, rows / 3}) {
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random);
    ids.resize(static_cast<size_t>(count));
    std::sort(ids.begin(), ids.end());
    steps.push_back(ids);
  }
  return steps;
}

void compare(const Case& size, uint32_t seed) {
  CAPTURE(size.first);
  CAPTURE(size.second);
  CAPTURE(size.rows);
  CAPTURE(size.dim);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Table on_cpu(size, 5), by_lanes(size, 5), shuffled(size, 5);
  int64_t number = 0;
  for (const std::vector<int32_t>& ids : random_steps(size.rows, random)) {
    std::vector<float> gradient(ids.size() * static_cast<size_t>(size.dim));
    for (float& g : gradient) g = normal(random);
    ++number;
    const bool dense = ids.size() == static_cast<size_t>(size.rows);
    const std::vector<int32_t> step_ids = dense ? std::vector<int32_t>{} : ids;
    if (ids.empty()) continue;  // the optimizer passes no such step on
    on_cpu.step(step_ids, gradient, number, update_on_cpu);
    by_lanes.step(step_ids, gradient, number, UpdateByLanes{1});
    shuffled.step(step_ids, gradient, number, UpdateByLanes{99});
    const auto expected = on_cpu.tensors();
    const auto got = by_lanes.tensors();
    for (size_t i = 0; i < expected.size(); ++i) check_close(got[i], expected[i]);
    CHECK(got == shuffled.tensors());
  }
}

TEST_CASE("lanes: every reading gives what the CPU's walk gives") {
  for (const char* reading :
       {"requery", "own_delta", "mean_delta", "bucket_local", "linear", "trusted", "wiener"}) {
    for (const char* geometry : {"depth=3,width=9", "depth=2,width=40"}) {
      const std::string first = fmt::format("sketch:0.5,{},reading={}", geometry, reading);
      compare({first.c_str(), "dense", 30, 33}, 1);
      compare({first.c_str(), "dense", 30, 72}, 2);
    }
  }
  for (const char* reading :
       {"requery", "own_delta", "mean_delta", "bucket_local", "linear", "row_scaled"}) {
    for (const char* geometry : {"depth=3,width=9", "depth=2,width=40"}) {
      const std::string second = fmt::format("sketch:0.5,{},reading={}", geometry, reading);
      compare({"dense", second.c_str(), 30, 33}, 3);
      compare({"dense", second.c_str(), 30, 72}, 4);
    }
  }
}

TEST_CASE("lanes: both moments in sketches, of one plan and of two") {
  for (const int64_t dim : {1, 7, 33, 64, 200, 257, 640, 1028}) {
    compare({"sketch:0.5,width=12,depth=1,reading=wiener",
             "sketch:0.5,width=12,depth=1,reading=row_scaled", 40, dim},
            5);
    compare({"sketch:0.5,width=12,depth=1,reading=wiener",
             "sketch:0.5,width=7,depth=1,reading=row_scaled", 20, dim},
            6);
  }
  compare({"sketch:0.5,width=12,depth=1,reading=requery",
           "sketch:0.5,width=12,depth=1,reading=requery", 40, 33},
          7);
  compare({"sketch:0.5,width=12,depth=3,reading=requery",
           "sketch:0.5,width=12,depth=3,reading=mean_delta", 40, 72},
          8);
}

TEST_CASE("lanes: rows with buckets of their own") {
  for (const int64_t dim : {7, 33, 64, 257, 640}) {
    compare({"hybrid:0.9,exact=0.6", "hybrid:0.9,exact=0.6", 400, dim}, 11);
    compare({"hybrid:0.9,exact=0.6", "sketch:0.9", 400, dim}, 12);
  }
  for (const char* reading : {"requery", "own_delta", "mean_delta", "bucket_local"}) {
    const std::string memory = fmt::format("hybrid:0.5,reading={}", reading);
    compare({memory.c_str(), memory.c_str(), 200, 33}, 13);
  }
}

TEST_CASE("lanes: all depths, and buckets of very many rows") {
  for (int depth = 1; depth <= kernels::kMaxSketchDepth; ++depth) {
    const std::string first = fmt::format("sketch:0.5,width=9,depth={},reading=own_delta", depth);
    compare({first.c_str(), "dense", 30, 12}, 9);
  }
  compare({"sketch:0.5,width=1,depth=1,reading=wiener",
           "sketch:0.5,width=1,depth=1,reading=row_scaled", 150, 72},
          10);
}

TEST_CASE("lanes: entries with an id below zero are no rows") {
  const Case size{"sketch:0.5,width=6,depth=1,reading=wiener",
                  "sketch:0.5,width=6,depth=1,reading=row_scaled", 20, 40};
  const std::vector<int32_t> ids{1, 4, 5, 9, 13};
  std::vector<float> gradient(ids.size() * static_cast<size_t>(size.dim));
  std::iota(gradient.begin(), gradient.end(), -99.0f);
  Table plain(size, 5), padded(size, 5), padded_rows(size, 5);
  plain.step(ids, gradient, 1, update_on_cpu);

  // The plan of a GPU has as many groups as entries; those of no row have the key -1.
  constexpr int64_t kEntries = 9;
  const auto with_padding = [&](bool by_rows) {
    return [&, by_rows](const StepRows& rows, kernels::StateAccess first,
                        kernels::StateAccess second, Matrix parameter) {
      auto& state1 = std::get<kernels::SketchState>(first);
      auto& state2 = std::get<kernels::SketchState>(second);
      kernels::SketchPlan plan = *state1.plan;
      const kernels::Groups real = plan.groups[0];
      std::vector<int32_t> keys(real.keys, real.keys + real.count);
      std::vector<int32_t> begin(real.begin, real.begin + real.count + 1);
      std::vector<int32_t> order(real.order, real.order + ids.size());
      std::vector<kernels::Slot> slots(plan.slots, plan.slots + ids.size());
      std::vector<int32_t> all_ids = ids;
      keys.resize(kEntries, -1);
      begin.resize(kEntries + 1, kEntries);
      all_ids.resize(kEntries, -1);
      slots.resize(kEntries);
      for (auto i = static_cast<int32_t>(ids.size()); i < kEntries; ++i) order.push_back(i);
      std::vector<float> all_gradient = gradient;
      all_gradient.resize(static_cast<size_t>(kEntries * size.dim), NAN);
      plan.rows = kEntries;
      plan.slots = slots.data();
      plan.groups[0] = {kEntries, keys.data(), begin.data(), order.data()};
      kernels::SketchPlan other = plan;
      state1.plan = &plan;
      state2.plan = by_rows ? &other : &plan;
      kernels::update_pieces_by_lanes(
          EmulatedPolicy{}, rows.exec(), kAdam, first, second, all_ids.data(),
          kernels::contiguous<const float>(all_gradient.data(), kEntries, size.dim), parameter);
    };
  };
  padded.step(ids, gradient, 1, with_padding(false));
  padded_rows.step(ids, gradient, 1, with_padding(true));
  const auto expected = plain.tensors();
  for (const Table* table : {&padded, &padded_rows}) {
    const auto got = table->tensors();
    for (size_t i = 0; i < expected.size(); ++i) check_close(got[i], expected[i]);
  }
}

TEST_CASE("lanes: how a step is cut") {
  CHECK(kernels::lanes_of_piece(1, 1) == 1);
  CHECK(kernels::lanes_of_piece(7, 1) == 8);
  CHECK(kernels::lanes_of_piece(64, 4) == 16);
  CHECK(kernels::lanes_of_piece(512, 4) == 32);
  constexpr int64_t kHuge = (int64_t{1} << 31) + 5;
  CHECK(kernels::change_tile_columns(0, 200, 56, 2) == 200);
  CHECK(kernels::change_tile_columns(1000, 200, 56, 2) == 200);
  CHECK(kernels::change_tile_columns(kHuge, 200, 56, 2) == 56);
  CHECK(kernels::change_tile_columns(100000, 2048, 512, 1) == 512);
  // Below the bound and in whole pieces.
  const int64_t columns = kernels::change_tile_columns(20000, 4096, 64, 2);
  CHECK(columns % 64 == 0);
  CHECK(columns * 20000 * 8 <= kernels::kChangeTileBytes);
}

}  // namespace
}  // namespace sketchgrad::test
