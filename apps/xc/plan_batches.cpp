// What batches hold, and how large they may be.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/shuffle.h"
#include "sketchgrad/apps/xc/plan.h"
#include "sketchgrad/apps/xc/task.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr int kBatchesLookedAt = 3;

// In place.
int64_t count_distinct(const Tensor& ids) {
  int32_t* const begin = ids.data<int32_t>();
  int32_t* const end = begin + ids.numel();
  std::sort(begin, end);
  return std::unique(begin, end) - begin;
}

// row(i) for i in [0, rows of all batches that are looked at).
template <class Row>
BatchShape batch_shape(const Examples& examples, int64_t rows, const Row& row) {
  BatchShape shape{.rows = std::min(rows, examples.rows())};
  for (int b = 0; b < kBatchesLookedAt; ++b) {
    const RowNumbers numbers(b * shape.rows, shape.rows);
    for (int64_t& number : numbers.all()) number = row(number % examples.rows());
    const Batch batch = examples.batch(numbers.all());
    shape.features = std::max(shape.features, batch.features.numel());
    shape.labels = std::max(shape.labels, batch.labels.numel());
    shape.distinct = std::max(shape.distinct, count_distinct(batch.features));
    shape.distinct_labels = std::max(shape.distinct_labels, count_distinct(batch.labels));
  }
  return shape;
}

BatchShape evaluation_shape(const TrainSettings& settings, const Examples& test, int64_t limit) {
  const int64_t rows =
      limit > 0 ? std::min(limit, settings.evaluation.batch) : settings.evaluation.batch;
  return batch_shape(test, rows, [](int64_t row) { return row; });
}

}  // namespace

RunShape run_shape(const TrainSettings& settings, const Data& data, int64_t rows) {
  const Shuffle order(data.train.rows(), order_key(settings.run.seed, /*epoch=*/1));
  return {.step = batch_shape(data.train, rows, order),
          .validation = evaluation_shape(settings, data.valid, settings.valid_limit),
          .ranking = evaluation_shape(settings, data.test, settings.evaluation.limit)};
}

int64_t largest_batch(const TrainSettings& settings, const ClassifierOptions& model,
                      const Data& data, int64_t budget) {
  constexpr int64_t kStep = 8;
  const auto total = [&](int64_t steps) {
    return plan_memory(settings, model, run_shape(settings, data, steps * kStep)).total();
  };
  const int64_t least = total(1);
  check(least <= budget,
        "--memory-budget: {} is less than the {} bytes that a run with batches of {} rows takes",
        budget, least, kStep);
  // Growth first: a batch that is far too large takes long to look at.
  int64_t fits = 1, too_many = std::max<int64_t>(data.train.rows() / kStep, 1) + 1;
  for (int64_t guess = 2; guess < too_many; guess *= 2) {
    if (total(guess) <= budget) {
      fits = guess;
    } else {
      too_many = guess;
    }
  }
  while (too_many - fits > 1) {
    const int64_t middle = std::midpoint(fits, too_many);
    (total(middle) <= budget ? fits : too_many) = middle;
  }
  return fits * kStep;
}

std::string format_plans(const TrainSettings& settings, const ClassifierOptions& model,
                         const RunShape& shape) {
  std::string table =
      fmt::format("batch of {} rows: {} features, {} different ones\n{:<18}", shape.step.rows,
                  shape.step.features, shape.step.distinct, "memory");
  std::vector<std::pair<std::string, PlannedMemory>> ways;
  const auto add = [&](const std::string& name, const char* order, const ClassifierOptions& of) {
    TrainSettings changed = settings;
    changed.order = order;
    ways.emplace_back(name, plan_memory(changed, of, shape));
  };
  if (model.is_mach() && !model.shared_hidden && model.repetitions.size() > 1) {
    ClassifierOptions one = model;
    one.repetitions.resize(1);
    add("a process each", "together", one);
    add("one by one", "one-by-one", model);
  }
  add(!model.is_mach() ? model.model
                       : (model.shared_hidden ? "together, shared hidden layer" : "together"),
      "together", model);
  for (const auto& [name, plan] : ways) table += fmt::format("{:>40}", name);
  const auto line = [&](const char* name, const auto& text) {
    table += fmt::format("\n{:<18}", name);
    for (const auto& [way, plan] : ways) table += fmt::format("{:>40}", text(plan));
  };
  const auto bytes = [&](const char* name, int64_t PlannedMemory::*of) {
    line(name, [of](const PlannedMemory& plan) { return format_bytes(plan.*of); });
  };
  bytes("parameter", &PlannedMemory::parameter);
  bytes("gradient", &PlannedMemory::gradient);
  bytes("optimizer_state", &PlannedMemory::optimizer_state);
  bytes("activation", &PlannedMemory::activation);
  bytes("workspace", &PlannedMemory::workspace);
  bytes("data", &PlannedMemory::data);
  bytes("index", &PlannedMemory::index);
  line("total", [](const PlannedMemory& plan) { return format_bytes(plan.total()); });
  line("peak at", [](const PlannedMemory& plan) { return plan.moment; });
  return table;
}

}  // namespace sketchgrad::apps::xc
