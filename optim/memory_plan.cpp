#include "sketchgrad/optim/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <variant>

#include "sketchgrad/optim/sketch_memory.h"

namespace sketchgrad {

namespace {

// Of second moments, whose rows have shapes of their own (docs/results/memories.md): measured in an
// embedding and in the output table of a language model.
struct ShapeErrors {
  double sketch;  // of a bucket full of other rows
  double rank_one;
  double row_wise;
};
constexpr ShapeErrors kRowSparseErrors{0.29, 0.22, 0.28};
constexpr ShapeErrors kAllRowsErrors{0.66, 0.45, 0.72};
const ShapeErrors& shape_errors(bool all_rows) {
  return all_rows ? kAllRowsErrors : kRowSparseErrors;
}
// Distance of neighbouring numbers, relative to them, in the mean over mantissas.
constexpr double kBf16Step = 0.0054;
constexpr double kInt8Step = 0.09;
// Sums are averages that forget after very many steps.
constexpr double kLargestDecay = 1.0 - 1e-9;

// How often the rows of a table are used, by falling weight; those of a frequency of 0 left out.
class RowUse {
 public:
  explicit RowUse(const TableUse& use) : all_rows_(use.all_rows) {
    const auto rows = static_cast<double>(use.rows);
    double total = 0.0;
    for (const int64_t count : use.counts) total += static_cast<double>(count);
    const bool alike = use.counts.empty() || total == 0.0;
    const double occurrences = use.occurrences > 0.0 ? use.occurrences : rows;
    if (alike) {
      rows_.push_back(row_of(occurrences / rows, kManySteps));
      repeats_ = rows;
      return;
    }
    std::vector<int64_t> counts = use.counts;
    std::sort(counts.begin(), counts.end(), std::greater<>());
    for (const int64_t count : counts) {
      if (count == 0) break;
      const auto seen = static_cast<double>(count);
      rows_.push_back(row_of(occurrences * seen / total, all_rows_ ? kManySteps : seen));
    }
  }

  struct Row {
    double active;  // probability in a step
    double energy;  // of a gradient
    double seen;    // gradients in a pass over the corpus
  };
  bool all_rows() const { return all_rows_; }
  // All rows stand for so many alike.
  double repeats() const { return repeats_; }
  const std::vector<Row>& rows() const { return rows_; }

 private:
  static constexpr double kManySteps = 1e6;
  Row row_of(double lambda, double seen) const {
    if (all_rows_) return {1.0, lambda, seen};
    const double active = -std::expm1(-lambda);
    return {active, lambda / active, seen};
  }

  bool all_rows_;
  double repeats_ = 1.0;
  std::vector<Row> rows_;
};

// Of a sketch: its geometry, and the sums over rows that share its buckets.
struct Buckets {
  double width;
  double active = 0.0;  // rows a step
  double energy = 0.0;  // of a visit
  double state = 0.0;   // energy of all rows' state
  double alive = 0.0;   // rows whose state is more than what has decayed
};

double state_energy(const RowUse::Row& row, double decay) {
  const double seen = -std::expm1(2.0 * row.seen * std::log(std::max(decay, 1e-30)));
  return row.energy * seen / (1.0 - decay * decay);
}

// The share of the time in which the state of a row that is stepped in every step is more than what
// has decayed: that of 1 / (1 - b^2) steps behind each occurrence.
double alive(const RowUse::Row& row, double decay) {
  return -std::expm1(-row.energy / (1.0 - decay * decay));
}

// Of an estimate trust * reading, trust = min(1, exact / reading) of their energies, as wiener has
// it; `common`: of the exact state and the reading. Relative to the exact energy.
double wiener_error_squared(double exact, double common, double reading) {
  const double trust = std::min(1.0, exact / reading);
  return std::max(0.0, 1.0 + (trust * trust * reading - 2.0 * trust * common) / exact);
}

double first_error_squared(const RowUse& use, const RowUse::Row& row, const Buckets& buckets,
                           double decay) {
  const double square = decay * decay;
  if (use.all_rows()) {
    const double share = alive(row, decay);
    const double own = state_energy(row, decay) / share;
    const double occupied = -std::expm1(-std::max(0.0, buckets.alive - share) / buckets.width);
    if (occupied == 0.0) return 0.0;
    const double noise = std::max(0.0, buckets.state - own * share) / buckets.width / occupied;
    return occupied * wiener_error_squared(own, own, own + noise);
  }
  const double others = std::max(0.0, buckets.active - row.active) / buckets.width;
  const double q = row.active / (row.active + others);
  const double r1 = q / (1.0 - (1.0 - q) * decay);
  const double r2 = q / (1.0 - (1.0 - q) * square);
  const double exact = 1.0 / (1.0 - square);
  const double noise = (1.0 - q) * exact * buckets.energy / row.energy;
  return wiener_error_squared(exact, r1 / (1.0 - square * r1), r2 / (1.0 - square * r2) + noise);
}

double second_error_squared(const RowUse& use, const RowUse::Row& row, const Buckets& buckets) {
  const double others = use.all_rows() ? std::max(0.0, buckets.active - 1.0) / buckets.width
                                       : std::max(0.0, buckets.active - row.active) / buckets.width;
  const double share = others / (row.active + others);
  const double error = shape_errors(use.all_rows()).sketch;
  return error * error * share;
}

ExpectedError same(double error) { return {error, error}; }

double rounding_error(double step, double decay) {
  const double per_change = step / (1.0 + decay);
  const double per_step = decay < 1.0 ? step * step / 6.0 / (1.0 - decay * decay) : per_change;
  return std::sqrt(std::min(per_change, per_step));
}

ExpectedError sketch_error(const SketchGeometry& geometry, const StateMemoryContext& context,
                           const RowUse& use) {
  const double decay = std::min(static_cast<double>(context.accumulate.decay), kLargestDecay);
  const bool first = context.role == MomentRole::first;
  // Without the power or the scale of rows, nothing here says what their buckets do to them.
  if (geometry.depth > 1) return same(1.0);
  const std::vector<RowUse::Row>& rows = use.rows();
  // The heaviest rows are exact. Where all are alike they are some of each.
  const auto heavy = static_cast<double>(geometry.heavy_rows);
  const size_t exact_rows =
      use.repeats() > 1.0 ? 0 : std::min(rows.size(), static_cast<size_t>(geometry.heavy_rows));
  const double sketched = use.repeats() > 1.0 ? std::max(0.0, use.repeats() - heavy) : 1.0;
  Buckets buckets{static_cast<double>(geometry.width)};
  for (size_t i = exact_rows; i < rows.size(); ++i) {
    buckets.active += sketched * rows[i].active;
    buckets.energy += sketched * rows[i].active * rows[i].energy;
    buckets.state += sketched * state_energy(rows[i], decay);
    buckets.alive += sketched * alive(rows[i], decay);
  }
  if (buckets.active > 0.0) buckets.energy /= buckets.active;
  double wrong = 0.0, whole = 0.0, wrong_step = 0.0, whole_step = 0.0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const double energy = state_energy(rows[i], decay);
    const double weight = use.repeats() * (first ? energy : energy * energy);
    double error = 0.0;
    if (i >= exact_rows) {
      error = first ? first_error_squared(use, rows[i], buckets, decay)
                    : second_error_squared(use, rows[i], buckets);
      error *= sketched / use.repeats();
    }
    wrong += weight * error;
    whole += weight;
    wrong_step += rows[i].active * weight * error;
    whole_step += rows[i].active * weight;
  }
  if (whole == 0.0) return {};
  return {std::sqrt(wrong / whole), std::sqrt(wrong_step / whole_step)};
}

struct ErrorOf {
  const StateMemoryContext& context;
  const RowUse& use;
  ExpectedError operator()(const Dense&) const { return {}; }
  ExpectedError operator()(const None&) const { return {}; }
  ExpectedError operator()(const RowWise&) const {
    return same(shape_errors(use.all_rows()).row_wise);
  }
  ExpectedError operator()(const RankOne&) const {
    return same(context.role == MomentRole::second ? shape_errors(use.all_rows()).rank_one : 1.0);
  }
  ExpectedError operator()(const RankOneL2&) const { return (*this)(RankOne{}); }
  // A bound, of which the step is the smaller.
  ExpectedError operator()(const Sm3Covers&) const { return same(1.0); }
  ExpectedError operator()(const Bf16&) const {
    return same(rounding_error(kBf16Step, context.accumulate.decay));
  }
  ExpectedError operator()(const Int8&) const {
    return same(rounding_error(kInt8Step, context.accumulate.decay));
  }
  template <class Sketch>
  ExpectedError operator()(const Sketch& spec) const {
    return sketch_error(planned_geometry(context, spec), context, use);
  }
};

// ---- The plan

struct Choice {
  MemorySpec spec;
  int64_t bytes = 0;
  double cost = 0.0;
  ExpectedError error;
};

// One moment of one table, and what it could have: by rising bytes and falling cost, convex.
struct Item {
  size_t table = 0;
  StateMemoryContext context;
  double weight = 0.0;  // of the squared error
  std::vector<Choice> choices;
  size_t chosen = 0;
};

// Ratios of sketches to choose among.
std::vector<double> ratios() {
  std::vector<double> result;
  for (const double decade : {1000.0, 100.0, 10.0}) {
    for (const double step : {1.0, 1.5, 2.0, 3.0, 5.0, 7.0}) result.push_back(step / decade);
  }
  return result;
}

MemorySpec sketch_of(MomentRole role, double ratio, double exact) {
  if (role == MomentRole::first) return CountSketch{.ratio = ratio, .exact = exact};
  return CountMin{.ratio = ratio, .exact = exact};
}

Choice choice_of(const Item& item, const RowUse& use, const MemorySpec& spec) {
  const ExpectedError error = std::visit(ErrorOf{item.context, use}, spec);
  return {spec, planned_bytes(spec, item.context), item.weight * error.step * error.step, error};
}

// Rows of one column have no shape to share, and few elements no state to save.
constexpr int64_t kFewElements = 4096;

std::vector<Choice> all_choices(const Item& item, const RowUse& use) {
  const MomentRole role = item.context.role;
  std::vector<MemorySpec> specs{Dense{}};
  if (item.context.rows * item.context.dim > kFewElements) {
    specs.emplace_back(Bf16{});
    specs.emplace_back(Int8{});
    if (role == MomentRole::second) {
      specs.emplace_back(RowWise{});
      specs.emplace_back(RankOne{});
    }
    for (const double ratio : ratios()) {
      for (const double exact : {0.0, 0.5}) specs.push_back(sketch_of(role, ratio, exact));
    }
  }
  std::vector<Choice> result;
  for (const MemorySpec& spec : specs) {
    try {
      Choice choice = choice_of(item, use, spec);
      result.push_back(std::move(choice));
    } catch (const InvalidArgument&) {
      // A ratio that leaves no bucket here.
    }
  }
  return result;
}

// The lower convex hull of costs over bytes, from the fewest bytes on.
std::vector<Choice> hull_of(std::vector<Choice> all) {
  std::stable_sort(all.begin(), all.end(), [](const Choice& a, const Choice& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.cost < b.cost;
  });
  std::vector<Choice> hull;
  const auto slope = [](const Choice& a, const Choice& b) {
    return (b.cost - a.cost) / static_cast<double>(b.bytes - a.bytes);
  };
  for (Choice& choice : all) {
    if (!hull.empty() && choice.cost >= hull.back().cost) continue;
    while (hull.size() >= 2 &&
           slope(hull[hull.size() - 2], hull.back()) >= slope(hull.back(), choice)) {
      hull.pop_back();
    }
    hull.push_back(std::move(choice));
  }
  return hull;
}

// What a step gains for a byte by the next choice of an item.
double gain(const Item& item) {
  if (item.chosen + 1 >= item.choices.size()) return 0.0;
  const Choice& now = item.choices[item.chosen];
  const Choice& next = item.choices[item.chosen + 1];
  return (now.cost - next.cost) / static_cast<double>(next.bytes - now.bytes);
}

double elements_a_step(const TableUse& use, const RowUse& rows) {
  double active = 0.0;
  for (const RowUse::Row& row : rows.rows()) active += rows.repeats() * row.active;
  return (use.all_rows ? static_cast<double>(use.rows) : active) * static_cast<double>(use.dim);
}

// Throws InvalidArgument for a use that cannot be.
void check_use(const TableUse& use) {
  check(use.counts.empty() || static_cast<int64_t>(use.counts.size()) == use.rows,
        "[plan] {} has {} rows and counts of {}", use.name, use.rows, use.counts.size());
  const auto negative =
      std::find_if(use.counts.begin(), use.counts.end(), [](int64_t count) { return count < 0; });
  check(negative == use.counts.end(), "[plan] {}: row {} has a count of {}", use.name,
        negative - use.counts.begin(), negative == use.counts.end() ? 0 : *negative);
  check(use.occurrences >= 0.0 && std::isfinite(use.occurrences),
        "[plan] {}: {} occurrences a step", use.name, use.occurrences);
}

// row_uses: of each table.
std::vector<Item> items_of(const Optimizer& optimizer, const std::vector<TableUse>& tables,
                           const std::vector<RowUse>& row_uses) {
  const RuleStep rule = optimizer.rule_step(1);
  const Moments defaults = optimizer.default_moments();
  std::vector<Item> items;
  for (size_t i = 0; i < tables.size(); ++i) {
    const TableUse& use = tables[i];
    const RowUse& rows = row_uses[i];
    for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
      const bool first = role == MomentRole::first;
      const auto& accumulate = first ? rule.first : rule.second;
      if (!accumulate) continue;
      Item item;
      item.table = i;
      item.context = {.name = use.name + (first ? ".first" : ".second"),
                      .role = role,
                      .accumulate = *accumulate,
                      .rows = use.rows,
                      .dim = use.dim,
                      .columns_shape = use.columns_shape};
      item.weight = elements_a_step(use, rows) * (first ? 1.0 : 0.25);
      const MemorySpec& by_default = first ? defaults.first : defaults.second;
      item.choices = std::holds_alternative<Dense>(by_default)
                         ? hull_of(all_choices(item, rows))
                         : std::vector<Choice>{choice_of(item, rows, by_default)};
      items.push_back(std::move(item));
    }
  }
  return items;
}

// A sketch as wide as the bytes allow.
void widen(Item& item, const RowUse& use, int64_t& left) {
  Choice& choice = item.choices[item.chosen];
  const double dense = static_cast<double>(item.context.rows * item.context.dim * 4);
  const auto widened = [&](auto spec) {
    // In digits that can be read.
    const double ratio = static_cast<double>(choice.bytes + left) / dense;
    const double before = spec.ratio;
    spec.ratio = std::min(1.0, std::floor(ratio * 1e6) / 1e6);
    if (spec.ratio <= before) return;
    const Choice wider = choice_of(item, use, spec);
    if (wider.bytes - choice.bytes > left || wider.bytes <= choice.bytes) return;
    left -= wider.bytes - choice.bytes;
    choice = wider;
  };
  if (const auto* sketch = std::get_if<CountSketch>(&choice.spec))
    widened(*sketch);
  else if (const auto* minimum = std::get_if<CountMin>(&choice.spec))
    widened(*minimum);
}

}  // namespace

TableUse table_use(const Parameter& parameter) {
  const StateMemoryContext context =
      memory_context(parameter.name, parameter.value, MomentRole::first, {}, 0);
  return {.name = parameter.name,
          .rows = context.rows,
          .dim = context.dim,
          .columns_shape = context.columns_shape};
}

ExpectedError expected_error(const MemorySpec& spec, const StateMemoryContext& context,
                             const TableUse& use) {
  const RowUse rows(use);
  return std::visit(ErrorOf{context, rows}, spec);
}

MemoryPlan plan_memories(const Optimizer& optimizer, const std::vector<TableUse>& tables,
                         int64_t budget) {
  // Sorted once: tables may have very many rows.
  std::vector<RowUse> row_uses;
  for (const TableUse& use : tables) {
    check_use(use);
    row_uses.emplace_back(use);
  }
  std::vector<Item> items = items_of(optimizer, tables, row_uses);
  int64_t least = 0;
  for (const Item& item : items) least += item.choices.front().bytes;
  check(budget >= least,
        "[plan] {} bytes for the optimizer's state are too few: the smallest that works for these "
        "{} parameters is {}",
        budget, tables.size(), least);
  int64_t left = budget - least;
  for (;;) {
    Item* best = nullptr;
    for (Item& item : items) {
      if (gain(item) <= 0.0) continue;
      const int64_t more = item.choices[item.chosen + 1].bytes - item.choices[item.chosen].bytes;
      if (more > left) continue;
      if (best == nullptr || gain(item) > gain(*best)) best = &item;
    }
    if (best == nullptr) break;
    left -= best->choices[best->chosen + 1].bytes - best->choices[best->chosen].bytes;
    ++best->chosen;
  }
  for (Item& item : items) widen(item, row_uses[item.table], left);

  MemoryPlan plan;
  plan.tables.resize(tables.size());
  for (PlannedTable& table : plan.tables) table.moments = {Dense{}, Dense{}};
  for (const Item& item : items) {
    const Choice& choice = item.choices[item.chosen];
    PlannedTable& table = plan.tables[item.table];
    const bool first = item.context.role == MomentRole::first;
    (first ? table.moments.first : table.moments.second) = choice.spec;
    (first ? table.first_bytes : table.second_bytes) = choice.bytes;
    (first ? table.first_error : table.second_error) = choice.error;
    plan.bytes += choice.bytes;
    plan.dense_bytes += item.context.rows * item.context.dim * size_of(DType::float32);
  }
  return plan;
}

}  // namespace sketchgrad
