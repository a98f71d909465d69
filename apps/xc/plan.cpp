#include "sketchgrad/apps/xc/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "sketchgrad/apps/common/shuffle.h"
#include "sketchgrad/optim/state_memory.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kInt = sizeof(int32_t);
constexpr int kBatchesLookedAt = 3;

// A parameter with `rows` rows of `dim` columns.
struct Table {
  int64_t rows = 0;
  int64_t dim = 0;
  bool sketched = false;
};

// Everything of one repetition, or of a softmax.
struct Network {
  Table input;
  Table hidden_bias;
  Table output;
  Table output_bias;
};

Network network_of(const TrainSettings& settings, const ClassifierOptions& model) {
  const int64_t outputs = model.is_mach() ? model.buckets : model.classes;
  return {.input = {model.features, model.hidden, settings.sketch_tables != "output"},
          .hidden_bias = {model.hidden, 1},
          .output = {outputs, model.hidden, settings.sketch_tables != "input"},
          .output_bias = {outputs, 1}};
}

int64_t bytes_of(const Table& table) { return table.rows * table.dim * kFloat; }

int64_t state_bytes_of(const OptimizerOptions& options, const Table& table) {
  const RuleStep rule = make_optimizer(options, 0).rule_step(1);
  Moments moments = table.sketched ? table_moments(options) : Moments{};
  if (!table.sketched && options.moment1 == "none") moments.first = None{};
  const auto bytes = [&](const MemorySpec& spec, const std::optional<kernels::Accumulate>& kept,
                         MomentRole role) {
    if (!kept) return int64_t{0};
    return planned_bytes(
        spec,
        {.name = "plan", .role = role, .accumulate = *kept, .rows = table.rows, .dim = table.dim});
  };
  return bytes(moments.first, rule.first, MomentRole::first) +
         bytes(moments.second, rule.second, MomentRole::second);
}

// Rows of the output that a step touches.
int64_t output_rows(const ClassifierOptions& model, int64_t rows) {
  if (model.is_mach() || model.model == "full") {
    return model.is_mach() ? model.buckets : model.classes;
  }
  const int64_t tail = model.model == "lsh" ? model.softmax.lsh_tail : 0;
  return std::min(model.classes, model.softmax.samples + tail + rows);
}

int64_t chunk_bytes(int64_t rows, int64_t outputs) {
  return std::min(rows * outputs * kFloat,
                  std::max(MultiLabelOptions{}.chunk_bytes, outputs * kFloat));
}

int64_t index_bytes(const ClassifierOptions& model, const BatchShape& batch) {
  // The transpose of the batch for each network: ids, begins, rows and weights.
  const int64_t transposed =
      model.networks() * (2 * batch.distinct + 1 + 2 * batch.features) * kInt;
  const auto repetitions = static_cast<int64_t>(model.repetitions.size());
  const int64_t map = model.is_mach() && model.stored_map ? model.classes * repetitions * kInt : 0;
  return transposed + map;
}

}  // namespace

BatchShape batch_shape(const Examples& examples, int64_t rows, uint64_t seed) {
  BatchShape shape{.rows = std::min(rows, examples.rows())};
  const Shuffle order(examples.rows(), {seed, 0});
  std::vector<int64_t> ids(static_cast<size_t>(shape.rows));
  for (int b = 0; b < kBatchesLookedAt; ++b) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t place = b * shape.rows + static_cast<int64_t>(i);
      ids[i] = order(place % examples.rows());
    }
    const Batch batch = examples.batch(ids);
    std::vector<int32_t> features = batch.features.to_vector<int32_t>();
    shape.features = std::max(shape.features, batch.features.numel());
    shape.labels = std::max(shape.labels, batch.labels.numel());
    std::sort(features.begin(), features.end());
    shape.distinct = std::max<int64_t>(
        shape.distinct, std::unique(features.begin(), features.end()) - features.begin());
  }
  return shape;
}

PlannedMemory plan_memory(const TrainSettings& settings, const ClassifierOptions& model,
                          const BatchShape& batch) {
  const Network network = network_of(settings, model);
  const int64_t heads = model.is_mach() ? static_cast<int64_t>(model.repetitions.size()) : 1;
  const int64_t networks = model.networks();
  const auto all = [&](const auto& bytes) {
    return networks * (bytes(network.input) + bytes(network.hidden_bias)) +
           heads * (bytes(network.output) + bytes(network.output_bias));
  };
  const int64_t hidden = batch.rows * model.hidden * kFloat;  // of one network
  const int64_t touched = output_rows(model, batch.rows);
  const int64_t of_outputs = heads * touched * (model.hidden + 1) * kFloat;
  const int64_t of_inputs = networks * (batch.distinct + 1) * model.hidden * kFloat;

  PlannedMemory plan;
  plan.parameter = all(bytes_of);
  plan.optimizer_state =
      all([&](const Table& table) { return state_bytes_of(settings.optimizer, table); });
  // Features twice (as they are read, and on the device), labels likewise.
  plan.data = 2 * ((2 * batch.features + batch.rows) + (batch.labels + batch.rows)) * kInt;
  plan.index = index_bytes(model, batch);
  // Either when the last output has been computed: gradients of all outputs and of what goes into
  // them, all hidden values, a chunk of logits ...
  const int64_t chunk = chunk_bytes(batch.rows, touched);
  const int64_t forward = of_outputs + heads * hidden + networks * hidden + chunk;
  // ... or when the first hidden layer's gradient has been: of all tables, and its own input.
  const int64_t backward = of_outputs + of_inputs + hidden;
  if (forward >= backward) {
    plan.gradient = of_outputs + heads * hidden;
    plan.activation = networks * hidden;
    plan.workspace = chunk;
  } else {
    plan.gradient = of_outputs + of_inputs + hidden;
  }
  return plan;
}

int64_t largest_batch(const TrainSettings& settings, const ClassifierOptions& model,
                      const Examples& examples, int64_t budget) {
  constexpr int64_t kStep = 8;
  const auto total = [&](int64_t rows) {
    return plan_memory(settings, model, batch_shape(examples, rows, settings.run.seed)).total();
  };
  int64_t fits = 0, too_many = examples.rows() / kStep + 1;
  check(total(kStep) <= budget,
        "--memory-budget: {} is less than the {} bytes that a batch of {} rows takes", budget,
        total(kStep), kStep);
  fits = 1;
  // Growth first: a batch that is far too large takes long to look at.
  int64_t guess = 2;
  while (guess < too_many && total(guess * kStep) <= budget) fits = std::exchange(guess, 2 * guess);
  too_many = std::min(too_many, guess);
  while (too_many - fits > 1) {
    const int64_t middle = std::midpoint(fits, too_many);
    (total(middle * kStep) <= budget ? fits : too_many) = middle;
  }
  return fits * kStep;
}

std::string format_plans(const TrainSettings& settings, const ClassifierOptions& model,
                         const BatchShape& batch) {
  std::string table = fmt::format("batch of {} rows: {} features, {} different ones\n{:<34}",
                                  batch.rows, batch.features, batch.distinct, "memory");
  std::vector<std::pair<std::string, PlannedMemory>> ways;
  if (model.is_mach()) {
    ClassifierOptions one = model;
    one.repetitions.resize(1);
    if (!model.shared_hidden && model.repetitions.size() > 1) {
      ways.emplace_back("one by one, or a process each", plan_memory(settings, one, batch));
    }
    ways.emplace_back(model.shared_hidden ? "together, shared hidden layer" : "together",
                      plan_memory(settings, model, batch));
  } else {
    ways.emplace_back(model.model, plan_memory(settings, model, batch));
  }
  for (const auto& [name, plan] : ways) table += fmt::format("{:>32}", name);
  const auto line = [&](const char* name, const auto& of) {
    table += fmt::format("\n{:<34}", name);
    for (const auto& [way, plan] : ways) table += fmt::format("{:>32}", format_bytes(of(plan)));
  };
  line("parameter", [](const PlannedMemory& plan) { return plan.parameter; });
  line("gradient", [](const PlannedMemory& plan) { return plan.gradient; });
  line("optimizer_state", [](const PlannedMemory& plan) { return plan.optimizer_state; });
  line("activation", [](const PlannedMemory& plan) { return plan.activation; });
  line("workspace", [](const PlannedMemory& plan) { return plan.workspace; });
  line("data", [](const PlannedMemory& plan) { return plan.data; });
  line("index", [](const PlannedMemory& plan) { return plan.index; });
  line("total", [](const PlannedMemory& plan) { return plan.total(); });
  return table;
}

}  // namespace sketchgrad::apps::xc
