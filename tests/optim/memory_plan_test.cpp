#include "sketchgrad/optim/memory_plan.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "sketchgrad/optim/adagrad.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/memory_study.h"
#include "sketchgrad/optim/momentum.h"
#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/optim/sm3.h"

namespace sketchgrad::test {
namespace {

std::vector<int64_t> zipf_counts(int64_t rows, double total, double exponent = 1.0) {
  double sum = 0.0;
  for (int64_t i = 1; i <= rows; ++i) sum += std::pow(static_cast<double>(i), -exponent);
  std::vector<int64_t> counts;
  for (int64_t i = 1; i <= rows; ++i) {
    counts.push_back(
        static_cast<int64_t>(std::ceil(total / sum * std::pow(static_cast<double>(i), -exponent))));
  }
  return counts;
}

// A small language model: two tables, a matrix and a vector.
std::vector<TableUse> model() {
  const std::vector<int64_t> counts = zipf_counts(5000, 1e6);
  return {{.name = "embedding",
           .rows = 5000,
           .dim = 64,
           .counts = counts,
           .occurrences = 700,
           .all_rows = false},
          {.name = "output", .rows = 5000, .dim = 64, .counts = counts, .occurrences = 700},
          {.name = "lstm", .rows = 256, .dim = 128},
          {.name = "bias", .rows = 5000, .dim = 1}};
}

int64_t dense_bytes(const std::vector<TableUse>& uses, int64_t moments) {
  int64_t total = 0;
  for (const TableUse& use : uses) total += use.rows * use.dim * 4 * moments;
  return total;
}

// What an optimizer with the plan's memories takes.
int64_t taken(Optimizer& optimizer, const std::vector<TableUse>& uses, const MemoryPlan& plan) {
  std::vector<std::unique_ptr<Parameter>> parameters;
  for (size_t i = 0; i < uses.size(); ++i) {
    const Shape shape = uses[i].dim == 1 ? Shape{uses[i].rows} : Shape{uses[i].rows, uses[i].dim};
    parameters.push_back(std::make_unique<Parameter>(uses[i].name, shape));
    optimizer.add(*parameters.back(), plan.tables[i].moments);
  }
  int64_t total = 0;
  for (const StateBytes& part : optimizer.state_bytes()) total += part.bytes;
  return total;
}

double cost(const MemoryPlan& plan) {
  double total = 0.0;
  for (const PlannedTable& table : plan.tables) {
    total += std::pow(table.first_error.step, 2) + std::pow(table.second_error.step, 2) / 4;
  }
  return total;
}

template <class Rule>
void check_plans(int64_t moments) {
  const std::vector<TableUse> uses = model();
  const int64_t dense = dense_bytes(uses, moments);
  for (const double share : {0.02, 0.05, 0.1, 0.2, 0.37, 0.5, 0.9, 1.0, 3.0}) {
    CAPTURE(share);
    const auto budget = static_cast<int64_t>(share * static_cast<double>(dense));
    Optimizer optimizer(Rule{});
    const MemoryPlan plan = plan_memories(optimizer, uses, budget);
    CHECK(plan.dense_bytes == dense);
    CHECK(plan.bytes <= budget);
    // Little is left over, as long as there is a sketch to take it.
    if (share < 0.2) CHECK(plan.bytes > budget - budget / 20);
    int64_t sum = 0;
    for (const PlannedTable& table : plan.tables) sum += table.first_bytes + table.second_bytes;
    CHECK(sum == plan.bytes);
    CHECK(taken(optimizer, uses, plan) == plan.bytes);
    if (share < 1.0) continue;
    for (const PlannedTable& table : plan.tables) {
      CHECK(std::holds_alternative<Dense>(table.moments.first));
      CHECK(std::holds_alternative<Dense>(table.moments.second));
    }
  }
}

TEST_CASE("plan: what is planned is what is taken, to the byte, and within the budget") {
  check_plans<Adam>(2);
  check_plans<Momentum>(1);
  check_plans<Adagrad>(1);
}

TEST_CASE("plan: more bytes do not cost more, and skew is worth bytes") {
  const std::vector<TableUse> uses = model();
  const Optimizer adam(Adam{});
  const auto dense = static_cast<double>(dense_bytes(uses, 2));
  double before = INFINITY;
  for (const double share : {0.02, 0.05, 0.1, 0.2, 0.4, 0.8}) {
    const double now = cost(plan_memories(adam, uses, static_cast<int64_t>(share * dense)));
    CHECK(now <= before * 1.05);
    before = now;
  }
  // Of two tables of one size, the one whose rows are all alike gains less from a sketch.
  std::vector<TableUse> two{
      {.name = "even", .rows = 5000, .dim = 64, .occurrences = 700, .all_rows = false},
      {.name = "skewed",
       .rows = 5000,
       .dim = 64,
       .counts = zipf_counts(5000, 1e6, 1.5),
       .occurrences = 700,
       .all_rows = false}};
  const StateMemoryContext context{"t", MomentRole::first, {0.9f, 0.1f, false}, 5000, 64};
  const MemorySpec sketch = CountSketch{.ratio = 0.2};
  CHECK(expected_error(sketch, context, two[1]).step <
        expected_error(sketch, context, two[0]).step - 0.1);
  // And a budget goes where it is needed.
  const MemoryPlan plan = plan_memories(adam, two, dense_bytes(two, 2) / 10);
  const auto bytes = [&](size_t i) {
    return plan.tables[i].first_bytes + plan.tables[i].second_bytes;
  };
  CHECK(bytes(0) > 2 * bytes(1));
}

TEST_CASE("plan: a budget that is too small names the smallest that works") {
  const std::vector<TableUse> uses = model();
  const Optimizer adam(Adam{});
  int64_t least = 0;
  try {
    plan_memories(adam, uses, 1000);
  } catch (const InvalidArgument& error) {
    const std::string text = error.what();
    CHECK(text.find("[plan] 1000 bytes") != std::string::npos);
    least = std::stoll(text.substr(text.rfind(' ')));
  }
  REQUIRE(least > 1000);
  CHECK(plan_memories(adam, uses, least).bytes <= least);
  CHECK_THROWS_AS(plan_memories(adam, uses, least - 1), InvalidArgument);
  std::vector<TableUse> wrong = uses;
  wrong[0].counts.pop_back();
  CHECK_THROWS_WITH_AS(plan_memories(adam, wrong, 1 << 24), doctest::Contains("counts of 4999"),
                       InvalidArgument);
}

TEST_CASE("plan: what a rule keeps otherwise by default stays") {
  const std::vector<TableUse> uses = model();
  const MemoryPlan plan = plan_memories(Optimizer(Sm3{}), uses, 1 << 24);
  for (const PlannedTable& table : plan.tables) {
    CHECK(std::holds_alternative<None>(table.moments.first));
    CHECK(std::holds_alternative<Sm3Covers>(table.moments.second));
  }
  const MemoryPlan without =
      plan_memories(Optimizer(Adam{.beta1 = 0.0f, .first = None{}}), uses, 1 << 24);
  for (const PlannedTable& table : without.tables) {
    CHECK(std::holds_alternative<None>(table.moments.first));
    CHECK(table.first_bytes == 0);
  }
}

// Rows drawn by their counts, with independent normal gradients, through real memories.
struct Simulation {
  TableUse use;
  std::vector<double> measured;
  // Of sketches of first moments: what active rows found before each of the last steps.
  std::vector<double> measured_steps;
  Simulation(const std::vector<const char*>& memories, MomentRole role, bool all_rows, int steps) {
    constexpr int64_t kRows = 1500, kDim = 48, kOccurrences = 60;
    const std::vector<int64_t> weights = zipf_counts(kRows, 1e6);
    use = {.name = "table",
           .rows = kRows,
           .dim = kDim,
           .occurrences = kOccurrences,
           .all_rows = all_rows};
    use.counts.assign(static_cast<size_t>(kRows), 0);
    Parameter table("table", {kRows, kDim});
    Optimizer optimizer(Adam{});
    optimizer.add(table);
    std::vector<MemorySpec> specs;
    for (const char* memory : memories) specs.push_back(parse_memory(memory, role));
    MemoryStudy study(optimizer, table, role, specs, 0);
    std::vector<std::unique_ptr<Sketched>> sketched;
    for (const MemorySpec& spec : specs) {
      if (std::holds_alternative<CountSketch>(spec)) {
        sketched.push_back(std::make_unique<Sketched>(spec, kRows, kDim));
      }
    }
    std::mt19937 random(7);
    std::discrete_distribution<int32_t> rows(weights.begin(), weights.end());
    std::normal_distribution<float> normal;
    for (int step = 0; step < steps; ++step) {
      std::map<int32_t, std::vector<float>> gradient;
      for (int i = 0; i < kOccurrences; ++i) {
        const int32_t row = rows(random);
        ++use.counts[static_cast<size_t>(row)];
        std::vector<float>& values = gradient[row];
        values.resize(kDim);
        for (float& value : values) value += normal(random);
      }
      if (all_rows) {
        std::vector<float> whole(static_cast<size_t>(kRows * kDim));
        for (const auto& [row, values] : gradient) {
          std::copy(values.begin(), values.end(), whole.begin() + row * kDim);
        }
        table.gradient.add(Tensor::from(whole, {kRows, kDim}, {Category::gradient, "g"}));
      } else {
        std::vector<int32_t> ids;
        std::vector<float> some;
        for (const auto& [row, values] : gradient) {
          ids.push_back(row);
          some.insert(some.end(), values.begin(), values.end());
        }
        const auto count = static_cast<int64_t>(ids.size());
        table.gradient.add(RowSparse{kRows, Tensor::from(ids, {count}, {Category::gradient, "ids"}),
                                     Tensor::from(some, {count, kDim}, {Category::gradient, "g"})});
      }
      study.step();
      const Tensor exact = optimizer.memory(table, MomentRole::first)->tensors()[0].second;
      for (const auto& one : sketched) {
        if (steps - step <= 300) one->compare(table.gradient, exact);
        one->step(table.gradient);
      }
      optimizer.step();
      optimizer.clear_gradients();
    }
    for (const MemoryErrors& errors : study.errors()) measured.push_back(errors.all.relative);
    for (const auto& one : sketched) measured_steps.push_back(std::sqrt(one->wrong / one->whole));
  }

  // The same table with its first moment in a sketch.
  struct Sketched {
    Parameter table;
    Optimizer optimizer{Adam{}};
    double wrong = 0.0, whole = 0.0;
    Sketched(const MemorySpec& spec, int64_t rows, int64_t dim) : table("table", {rows, dim}) {
      optimizer.add(table, {spec, Dense{}});
    }
    void compare(Gradient& gradient, const Tensor& exact) {
      const int64_t dim = table.value.size(1);
      std::vector<int32_t> ids(static_cast<size_t>(gradient.values().numel() / dim));
      std::iota(ids.begin(), ids.end(), 0);
      if (gradient.kind() == Gradient::Kind::row_sparse) {
        ids = gradient.rows().ids.to_vector<int32_t>();
      }
      const auto count = static_cast<int64_t>(ids.size());
      const Tensor read = Tensor::zeros({count, dim}, {Category::workspace, "read"});
      dynamic_cast<const SketchMemory&>(*optimizer.memory(table, MomentRole::first))
          .read(ids.data(), read.matrix());
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < dim; ++c) {
          const double value = exact.data<float>()[ids[static_cast<size_t>(r)] * dim + c];
          wrong += std::pow(read.data<float>()[r * dim + c] - value, 2);
          whole += value * value;
        }
      }
    }
    void step(Gradient& gradient) {
      if (gradient.kind() == Gradient::Kind::row_sparse) {
        table.gradient.add(gradient.rows());
      } else {
        table.gradient.add(gradient.values());
      }
      optimizer.step();
      optimizer.clear_gradients();
    }
  };
};

TEST_CASE("plan: expected errors of first moments are those of simulated ones") {
  const std::vector<const char*> memories{"sketch:0.1", "sketch:0.3", "sketch:0.6", "hybrid:0.3"};
  const StateMemoryContext context{"t", MomentRole::first, {0.9f, 0.1f, false}, 1500, 48};
  for (const bool all_rows : {false, true}) {
    CAPTURE(all_rows);
    const Simulation simulation(memories, MomentRole::first, all_rows, 3000);
    for (size_t i = 0; i < memories.size(); ++i) {
      const MemorySpec spec = parse_memory(memories[i], MomentRole::first);
      const ExpectedError expected = expected_error(spec, context, simulation.use);
      CAPTURE(std::string(memories[i]));
      CAPTURE(expected.state);
      CAPTURE(expected.step);
      CHECK(std::abs(simulation.measured[i] - expected.state) < 0.25);
      CHECK(std::abs(simulation.measured_steps[i] - expected.step) < 0.2);
    }
  }
}

TEST_CASE("plan: expected errors of rounded moments are those of simulated ones") {
  const std::vector<const char*> memories{"bf16", "int8"};
  for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
    const bool first = role == MomentRole::first;
    const StateMemoryContext context{
        "t", role, {first ? 0.9f : 0.999f, first ? 0.1f : 0.001f, !first}, 1500, 48};
    const Simulation simulation(memories, role, false, 3000);
    for (size_t i = 0; i < memories.size(); ++i) {
      const double expected =
          expected_error(parse_memory(memories[i], role), context, simulation.use).state;
      CAPTURE(std::string(memories[i]));
      CAPTURE(expected);
      CHECK(simulation.measured[i] < 1.5 * expected);
      CHECK(simulation.measured[i] > expected / 3.0);
    }
  }
}

}  // namespace
}  // namespace sketchgrad::test
