#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "sketchgrad/optim/adam.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

constexpr double kRatio = 0.2;
constexpr float kLearningRate = 1e-6f;

struct Variant {
  std::string name;
  Moments moments;
};

std::vector<Variant> variants(bool with_readings) {
  const auto sketch = [](Reading reading) {
    return CountSketch{.ratio = kRatio, .reading = reading};
  };
  const auto minimum = [](Reading reading) {
    return CountMin{.ratio = kRatio, .reading = reading};
  };
  const Reading automatic = Reading::automatic;
  // The first one is what the others are compared with.
  std::vector<Variant> all = {
      {"dense state", {Dense{}, Dense{}}},
      {"CS-V", {Dense{}, minimum(automatic)}},
      {"CS-M", {sketch(automatic), Dense{}}},
      {"CS-MV", {sketch(automatic), minimum(automatic)}},
      {"V row-wise", {Dense{}, RowWise{}}},
      {"V rank-one", {Dense{}, RankOne{}}},
      {"V SM3-II", {Dense{}, Sm3Covers{}}},
      {"MV bf16", {Bf16{}, Bf16{}}},
      {"MV int8", {Int8{}, Int8{}}},
      {"hybrid MV",
       {CountSketch{.ratio = kRatio, .exact = 0.5}, CountMin{.ratio = kRatio, .exact = 0.5}}},
      {"CS-MV bf16 cells",
       {CountSketch{.ratio = kRatio, .bf16 = true}, CountMin{.ratio = kRatio, .bf16 = true}}},
      {"dense, skipped steps", {.decay_skipped = true}}};
  if (!with_readings) return all;
  for (const Reading reading : {Reading::requery, Reading::own_delta, Reading::mean_delta,
                                Reading::bucket_local, Reading::linear}) {
    all.push_back({"CS-MV " + to_string(reading), {sketch(reading), minimum(reading)}});
  }
  for (const Reading reading : {Reading::mean_delta, Reading::trusted, Reading::wiener}) {
    all.push_back({"CS-MV " + to_string(reading) + ", row_scaled",
                   {sketch(reading), minimum(Reading::row_scaled)}});
  }
  return all;
}

// Bytes of one moment's state that a step of `active` rows reads and writes, each once.
double state_bytes(const StateDict& state, const std::string& name, int64_t dim, double active) {
  const auto cells = state.tensors.find(name + ".cells");
  if (cells == state.tensors.end()) {
    // A part for each row, all of it for the active ones, or a factor of the columns.
    double bytes = 0.0;
    for (const auto& [part, tensor] : state.tensors) {
      if (part.rfind(name + ".", 0) != 0) continue;
      const double row_bytes =
          static_cast<double>(tensor.bytes()) / static_cast<double>(tensor.size(0));
      bytes += 2.0 * row_bytes *
               (tensor.size(0) == dim && tensor.dim() == 1 ? static_cast<double>(dim) : active);
    }
    return bytes;
  }
  const double depth = static_cast<double>(cells->second.size(0));
  const auto heavy = state.tensors.find(name + ".owners");
  const double exact =
      heavy == state.tensors.end() ? 0.0 : static_cast<double>(heavy->second.numel());
  const double width = static_cast<double>(cells->second.size(1)) - exact;
  const double sketched = std::max(0.0, active - exact);
  // The expected number of buckets that the rows hash to, and those of heavy rows, all active.
  const double touched =
      width * -std::expm1(sketched * std::log1p(-1.0 / width)) + std::min(active, exact);
  const double cell_bytes = static_cast<double>(size_of(cells->second.dtype()));
  const auto row_state = state.tensors.find(name + ".row_state");
  const double row_floats =
      row_state == state.tensors.end() ? 0.0 : static_cast<double>(row_state->second.size(1));
  return 2.0 * cell_bytes * depth * touched * static_cast<double>(dim) + 8.0 * row_floats * active;
}

// A table and an optimizer for each variant, all stepping the same table.
class Table {
 public:
  Table(int64_t rows, int64_t dim, bool with_readings)
      : parameter_("table", {rows, dim}, device()), variants_(variants(with_readings)) {
    for (const Variant& variant : variants_) {
      optimizers_.push_back(std::make_unique<Optimizer>(Adam{.learning_rate = kLearningRate}));
      optimizers_.back()->add(parameter_, variant.moments);
    }
  }

  int64_t rows() const { return parameter_.value.size(0); }
  int64_t dim() const { return parameter_.value.size(1); }

  // Measures a step of every variant. Gradient: Tensor or coalesced RowSparse.
  template <class G>
  void run(const G& gradient, int64_t active, const Options& options, Report& report) {
    std::vector<Case> cases;
    for (size_t i = 0; i < variants_.size(); ++i) {
      Optimizer* const optimizer = optimizers_[i].get();
      cases.push_back({variants_[i].name, work(*optimizer, static_cast<double>(active)),
                       [=] { optimizer->step(); },
                       [this, gradient] {
                         parameter_.gradient.clear();
                         parameter_.gradient.add(gradient);
                       }});
    }
    const std::vector<Timing> timings = measure(cases, options.seconds);
    parameter_.gradient.clear();
    for (size_t i = 0; i < cases.size(); ++i) {
      report.add(cases[i].name, cases[i].work, timings[i], paired_ratio(timings[i], timings[0]));
    }
  }

 private:
  Work work(const Optimizer& optimizer, double active) const {
    StateDict state;
    optimizer.save(state);
    const double first = state_bytes(state, "optimizer.table.first", dim(), active);
    const double second = state_bytes(state, "optimizer.table.second", dim(), active);
    const double elements = active * static_cast<double>(dim());
    return {12.0 * elements + first + second, 0,
            fmt::format("B: 12 K D (g, 2 w) + {:.2f} K D (m) + {:.2f} K D (v)", first / elements,
                        second / elements)};
  }

  Parameter parameter_;
  std::vector<Variant> variants_;
  std::vector<std::unique_ptr<Optimizer>> optimizers_;
};

void run_sparse(const Options& options, Report& report) {
  Table table(options.rows, options.dim, /*with_readings=*/true);
  const std::string of_table = fmt::format("of [{}, {}]", table.rows(), table.dim());
  const auto run = [&](const std::string& name, const std::string& draw,
                       const std::vector<int32_t>& ids) {
    const int64_t count = static_cast<int64_t>(ids.size());
    report.begin_group("optimizer.sparse." + name,
                       fmt::format("Adam, K = {} {} rows {}, sketches of ratio {}", count, draw,
                                   of_table, kRatio));
    table.run(random_gradient(table.rows(), table.dim(), ids), count, options, report);
  };
  run("uniform", "uniformly random", uniform_rows(options.rows, options.active));
  run("many", "uniformly random", uniform_rows(options.rows, 100'000));
  run("zipf", "distinct Zipf-drawn", sorted_unique(zipf_ids(options.rows, 8 * options.active)));
}

void run_dense(const Options& options, Report& report) {
  Table table(33278, 200, /*with_readings=*/true);
  report.begin_group("optimizer.dense",
                     fmt::format("Adam, dense gradient of [{}, {}], sketches of ratio {}",
                                 table.rows(), table.dim(), kRatio));
  table.run(random_tensor({table.rows(), table.dim()}, 0.01f, Category::gradient), table.rows(),
            options, report);
}

}  // namespace

std::vector<Group> optimizer_groups() {
  return {{"optimizer.sparse", run_sparse}, {"optimizer.dense", run_dense}};
}

}  // namespace sketchgrad::bench
