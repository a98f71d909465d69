#include "sketchgrad/apps/xc/plan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <variant>
#include <vector>

#include "sketchgrad/apps/xc/evaluate.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/layers/best_list.h"
#include "sketchgrad/layers/mach_filter.h"
#include "sketchgrad/layers/mach_top_k.h"
#include "sketchgrad/layers/multi_label_output.h"
#include "sketchgrad/layers/softmax_chunks.h"
#include "sketchgrad/optim/sketch_memory.h"
#include "sketchgrad/optim/sketch_telemetry.h"

namespace sketchgrad::apps::xc {

namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kInt = sizeof(int32_t);
constexpr int64_t kScored = sizeof(Scored);

int64_t divide_up(int64_t size, int64_t part) { return (size + part - 1) / part; }

// Partial sums of columns, in double precision.
int64_t column_sum_bytes(int64_t rows, int64_t columns) {
  constexpr int64_t kRows = 256;
  return divide_up(rows, kRows) * columns * static_cast<int64_t>(sizeof(double));
}

// A parameter with `rows` rows of `dim` columns.
struct Table {
  int64_t rows = 0;
  int64_t dim = 0;
  bool sketched = false;
  int64_t bytes() const { return rows * dim * kFloat; }
};

// A moment of a table.
struct PlannedMoment {
  int64_t bytes = 0;
  std::optional<SketchGeometry> sketch;
};

// Buckets with several of `rows` rows, and all that have any.
struct Occupancy {
  Occupancy(double rows, double width) {
    const double missed = std::log1p(-1 / std::max(width, 2.0));
    used = width * (1 - std::exp(rows * missed));
    shared = used - rows * std::exp((rows - 1) * missed);
  }
  double used = 0;
  double shared = 0;
};

class Planner {
 public:
  Planner(const TrainSettings& settings, const ClassifierOptions& model, const RunShape& shape)
      : settings_(settings),
        model_(model),
        shape_(shape),
        heads_(model.is_mach() ? static_cast<int64_t>(model.repetitions.size()) : 1),
        networks_(model.networks()),
        outputs_(model.is_mach() ? model.buckets : model.classes),
        input_{model.features, model.hidden, settings.sketch_tables != "output"},
        output_{outputs_, model.hidden, settings.sketch_tables != "input"} {
    base_.parameter = networks_ * (input_.bytes() + model.hidden * kFloat) +
                      heads_ * (output_.bytes() + outputs_ * kFloat);
    base_.optimizer_state = networks_ * (state_bytes(input_) + state_bytes({model.hidden, 1})) +
                            heads_ * (state_bytes(output_) + state_bytes({outputs_, 1}));
    base_.index = standing_index();
    telemetry_ = networks_ * telemetry_bytes(input_) + heads_ * telemetry_bytes(output_);
    // The alias table of a sampler by counts.
    if (model.model == "sampled" && model.softmax.sampler == "unigram") {
      base_.data = 3 * model.classes * kInt;
    }
  }

  PlannedMemory training() {
    begin_step();
    last_output();
    last_hidden_layer();
    first_hidden_layer();
    optimizer();
    validation();
    return largest_;
  }
  PlannedMemory training_and_ranking() {
    training();
    ranking();
    return largest_;
  }
  // Of a model that is read from a file, with room for a parameter beside it.
  PlannedMemory ranking_alone() {
    base_.optimizer_state = 0;
    telemetry_ = 0;
    PlannedMemory reading = base_;
    reading.parameter += std::max(input_.bytes(), output_.bytes());
    offer(reading, "reading the joined model");
    ranking();
    return largest_;
  }

 private:
  // What an output layer takes while its loss is computed.
  struct Loss {
    int64_t workspace = 0;
    int64_t index = 0;
  };

  int64_t hidden_bytes(int64_t rows) const { return rows * model_.hidden * kFloat; }
  bool draws_classes() const { return model_.model == "sampled" || model_.model == "lsh"; }

  void offer(PlannedMemory moment, const char* name) {
    moment.moment = name;
    moment.workspace += telemetry_;
    if (moment.total() > largest_.total()) largest_ = std::move(moment);
  }

  int64_t standing_index() const {
    if (model_.is_mach()) return model_.stored_map ? model_.classes * heads_ * kInt : 0;
    if (model_.model != "lsh") return 0;
    const SoftmaxOptions& options = model_.softmax;
    const int64_t buckets = int64_t{1} << options.lsh_bits, tables = options.lsh_tables;
    const int64_t limit = std::max<int64_t>(8, 4 * model_.classes / buckets);
    return (model_.classes * tables + tables * buckets * (limit + 2) +
            tables * options.lsh_bits * model_.hidden) *
           kInt;
  }

  PlannedMoment moment_of(const Table& table, MomentRole role) const {
    const OptimizerOptions& options = settings_.optimizer;
    const Optimizer optimizer = make_optimizer(options, 0);
    const RuleStep rule = optimizer.rule_step(1);
    const auto& kept = role == MomentRole::first ? rule.first : rule.second;
    if (!kept) return {};
    const Moments moments = table.sketched ? table_moments(options) : optimizer.default_moments();
    const MemorySpec& spec = role == MomentRole::first ? moments.first : moments.second;
    const StateMemoryContext context{
        .name = "plan", .role = role, .accumulate = *kept, .rows = table.rows, .dim = table.dim};
    PlannedMoment result{planned_bytes(spec, context), std::nullopt};
    if (const auto* sketch = std::get_if<CountSketch>(&spec)) {
      result.sketch = planned_geometry(context, *sketch);
    } else if (const auto* minimum = std::get_if<CountMin>(&spec)) {
      result.sketch = planned_geometry(context, *minimum);
    }
    return result;
  }
  int64_t state_bytes(const Table& table) const {
    const int64_t last_steps =
        table.sketched && settings_.optimizer.decay_skipped ? table.rows * kInt : 0;
    return moment_of(table, MomentRole::first).bytes + moment_of(table, MomentRole::second).bytes +
           last_steps;
  }

  int64_t telemetry_bytes(const Table& table) const {
    if (settings_.run.telemetry_rows == 0) return 0;
    int64_t moments = 0;
    for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
      if (moment_of(table, role).sketch) ++moments;
    }
    return SketchTelemetry::planned_bytes(settings_.run.telemetry_rows, table.rows, table.dim,
                                          moments);
  }

  // Rows of an output that a step touches.
  int64_t touched_outputs() const {
    if (!draws_classes()) return outputs_;
    const int64_t tail = model_.model == "lsh" ? model_.softmax.lsh_tail : 0;
    const int64_t targets = std::min(shape_.step.rows, shape_.step.distinct_labels);
    return std::min(outputs_, model_.softmax.samples + tail + targets);
  }
  int64_t output_gradients() const {
    return heads_ * touched_outputs() * (model_.hidden + 1) * kFloat;
  }
  int64_t input_gradients(int64_t networks) const {
    return networks * (shape_.step.distinct + 1) * model_.hidden * kFloat;
  }

  // Products of a chunk of logits [tokens, classes], and with `gradients` those that follow.
  int64_t product_bytes(int64_t tokens, int64_t classes, bool gradients) const {
    const int64_t forward = kernels::gemm_scratch_bytes(tokens, classes, model_.hidden);
    if (!gradients) return forward;
    return std::max({forward, kernels::gemm_scratch_bytes(tokens, model_.hidden, classes),
                     kernels::gemm_scratch_bytes(classes, model_.hidden, tokens),
                     column_sum_bytes(tokens, classes)});
  }
  // Where chunks are of whole rows, of even size.
  int64_t row_chunk_bytes(int64_t rows, int64_t classes, bool gradients) const {
    const int64_t most = std::max<int64_t>(MultiLabelOptions{}.chunk_bytes / (classes * kFloat), 1);
    const int64_t block = divide_up(rows, std::max<int64_t>(divide_up(rows, most), 1));
    return block * classes * kFloat + product_bytes(block, classes, gradients);
  }
  int64_t full_softmax_bytes(int64_t rows, bool gradients) const {
    const ChunkPlan plan(rows, outputs_, FullSoftmaxOptions{}.chunk_bytes);
    if (plan.tokens.empty()) return 0;
    return plan.largest_chunk() * kFloat +
           product_bytes(plan.tokens[0].count, plan.classes[0].count, gradients);
  }
  Loss loss_of(const BatchShape& batch, bool training) const {
    constexpr int64_t kNumbersOfRow = 4;  // largest logit, sum, target, loss
    Loss loss{kNumbersOfRow * batch.rows * kFloat, 0};
    if (model_.is_mach()) {
      loss.workspace += row_chunk_bytes(batch.rows, outputs_, training);
      // Buckets of the labels, their shares, and a mark for rows without.
      loss.index = (2 * batch.labels + 2 * batch.rows + 1) * kInt;
    } else if (training && draws_classes()) {
      const int64_t count = touched_outputs();
      // Rows of the table, and of each class its bias and corrections.
      constexpr int64_t kNumbersOfClass = 4;
      loss.workspace += count * (model_.hidden + kNumbersOfClass) * kFloat + batch.rows * kFloat +
                        row_chunk_bytes(batch.rows, count, true);
      loss.index = (2 * count + 2 * batch.rows) * kInt;
    } else {
      loss.workspace += full_softmax_bytes(batch.rows, training);
      loss.index = batch.rows * kInt;
    }
    return loss;
  }

  // A batch's features and known labels.
  static PlannedMemory batch_bytes(PlannedMemory base, const BatchShape& batch) {
    base.data += (2 * batch.features + batch.labels + batch.rows + 1) * kInt;
    base.index += (batch.rows + 1) * kInt;
    return base;
  }

  void begin_step() {
    step_ = batch_bytes(base_, shape_.step);
    // Where the features stand that a gradient has rows for, and the rest of the transpose.
    feature_ids_ = shape_.step.features * kInt;
    transpose_ = (3 * shape_.step.features + 1) * kInt;
  }

  void last_output() {
    const Loss loss = loss_of(shape_.step, true);
    PlannedMemory moment = step_;
    moment.gradient = output_gradients() + heads_ * hidden_bytes(shape_.step.rows);
    moment.activation = networks_ * hidden_bytes(shape_.step.rows);
    moment.workspace = loss.workspace;
    moment.index += feature_ids_ + transpose_ + loss.index;
    offer(moment, "loss of the last output");
  }

  void last_hidden_layer() {
    PlannedMemory moment = step_;
    const int64_t hidden = hidden_bytes(shape_.step.rows);
    moment.gradient = output_gradients() + input_gradients(1) + networks_ * hidden;
    moment.activation = (networks_ - 1) * hidden;
    moment.workspace = column_sum_bytes(shape_.step.rows, model_.hidden);
    moment.index += feature_ids_ + transpose_;
    offer(moment, "gradient of the last hidden layer");
  }

  void first_hidden_layer() {
    PlannedMemory moment = step_;
    moment.gradient =
        output_gradients() + input_gradients(networks_) + hidden_bytes(shape_.step.rows);
    moment.workspace = column_sum_bytes(shape_.step.rows, model_.hidden);
    moment.index += feature_ids_ + transpose_;
    offer(moment, "gradient of the first hidden layer");
  }

  void optimizer() {
    for (const auto& [table, active] :
         {std::pair{input_, shape_.step.distinct}, std::pair{output_, touched_outputs()}}) {
      PlannedMemory moment = step_;
      moment.gradient = output_gradients() + input_gradients(networks_);
      moment.index += feature_ids_ + (draws_classes() ? touched_outputs() * kInt : 0);
      if (telemetry_bytes(table) > 0) {
        PlannedMemory before = moment;
        before.workspace +=
            2 * std::min(settings_.run.telemetry_rows, table.rows) * table.dim * kFloat;
        offer(std::move(before), "step of the telemetry");
      }
      add_sketch_step(table, active, moment);
      offer(moment, "step of the optimizer");
    }
  }

  // Sketches of one geometry share where rows are. Where they have one depth, and many rows share a
  // bucket, one row of sums serves them all.
  void add_sketch_step(const Table& table, int64_t active, PlannedMemory& moment) const {
    const std::optional<SketchGeometry> sketches[] = {moment_of(table, MomentRole::first).sketch,
                                                      moment_of(table, MomentRole::second).sketch};
    const auto same = [](const SketchGeometry& a, const SketchGeometry& b) {
      return a.depth == b.depth && a.width == b.width && a.heavy_rows == b.heavy_rows;
    };
    if (table.sketched && settings_.optimizer.decay_skipped) {
      moment.workspace += 2 * active * kFloat;  // a decay of each moment
    }
    const bool both = sketches[0] && sketches[1];
    const bool one_plan = !both || same(*sketches[0], *sketches[1]);
    for (size_t i = 0; i < 2; ++i) {
      if (!sketches[i]) continue;
      const SketchGeometry& sketch = *sketches[i];
      // Heavy rows are alone in their buckets.
      const auto rows = static_cast<double>(std::max<int64_t>(0, active - sketch.heavy_rows));
      if (sketch.heavy_rows > 0) moment.index += 2 * active * kInt;
      const Occupancy buckets(rows, static_cast<double>(sketch.width));
      const bool by_buckets = one_plan && sketch.depth == 1 && 5 * rows >= 6 * buckets.used;
      const double sums = by_buckets ? 1 : std::floor(buckets.shared * sketch.depth);
      moment.workspace += static_cast<int64_t>(sums) * table.dim * kFloat;
      if (i == 1 && both && one_plan) continue;
      // Slots, keys, order and begin, and turns of two numbers.
      moment.index += (6 * sketch.depth * active + sketch.depth) * kInt;
    }
  }

  // The batch of the last step is still there.
  void validation() {
    const BatchShape& batch = shape_.validation;
    const Loss loss = loss_of(batch, false);
    PlannedMemory moment = batch_bytes(step_, batch);
    moment.data += batch.labels * kInt;
    moment.activation = networks_ * hidden_bytes(batch.rows);
    moment.workspace = loss.workspace;
    moment.index += loss.index + (batch.rows + 1) * kInt;
    offer(moment, "validation");
  }

  void ranking() {
    const BatchShape& batch = shape_.ranking;
    PlannedMemory moment = batch_bytes(step_.parameter > 0 ? step_ : base_, batch);
    moment.data += model_.classes * kInt;  // counts, for propensities
    const int64_t answers = batch.rows * std::min(kRanked, model_.classes);
    if (model_.is_mach()) {
      rank_by_buckets(moment, answers);
      return;
    }
    moment.data += answers * kScored;
    moment.activation = hidden_bytes(batch.rows);
    moment.workspace =
        4 * batch.rows * kFloat + answers * kScored + full_softmax_bytes(batch.rows, false);
    offer(moment, "ranking");
  }

  void rank_by_buckets(PlannedMemory moment, int64_t answers) {
    const BatchShape& batch = shape_.ranking;
    moment.data += heads_ * batch.rows * outputs_ * kFloat;
    PlannedMemory predicting = moment;
    predicting.activation = networks_ * hidden_bytes(batch.rows);
    predicting.workspace =
        4 * batch.rows * kFloat + kernels::gemm_scratch_bytes(batch.rows, outputs_, model_.hidden);
    const EvaluationSettings& evaluation = settings_.evaluation;
    const RankingSettings& by = evaluation.ranking;
    const int64_t index = by.best_buckets > 0 ? heads_ * (model_.classes + outputs_ + 1) * kInt : 0;
    predicting.index += batch.rows * kInt + index;
    offer(predicting, "ranking: probabilities of buckets");

    moment.data += answers * kScored;
    const int64_t queries = std::min(MachFilter::kMostLanes, batch.rows);
    const int64_t ranked = std::min(kRanked, model_.classes);
    PlannedMemory searching = moment;
    const int64_t all_classes = model_.classes > mach_first_round(ranked)
                                    ? MachFilter::table_bytes(heads_, outputs_, queries)
                                    : 0;
    searching.workspace = queries * ranked * kScored;
    if (by.best_buckets > 0) {
      const int64_t kept = std::min(by.best_buckets + 1, outputs_);
      searching.workspace +=
          std::max(queries * heads_ * kept * kScored, by.proven ? all_classes : 0);
      searching.data += batch.rows * kInt;
      searching.index += index + (by.proven ? batch.rows * kInt : 0);
    } else {
      searching.workspace += all_classes;
      searching.index += batch.rows * kInt;
    }
    offer(searching, "ranking: search for the best classes");
    if (evaluation.sampled_ranks > 0) {
      moment.data += (evaluation.sampled_ranks * batch.rows + batch.labels) * kScored;
      moment.index += index;
      offer(moment, "ranking among samples");
    }
  }

  const TrainSettings& settings_;
  const ClassifierOptions& model_;
  const RunShape& shape_;
  int64_t heads_;
  int64_t networks_;
  int64_t outputs_;  // classes of one output layer
  Table input_;
  Table output_;
  PlannedMemory base_;     // what is always there
  int64_t telemetry_ = 0;  // likewise, of workspace and a little index
  PlannedMemory step_;     // and the batch of a step
  int64_t feature_ids_ = 0;
  int64_t transpose_ = 0;
  PlannedMemory largest_;
};

}  // namespace

PlannedMemory plan_memory(const TrainSettings& settings, const ClassifierOptions& model,
                          const RunShape& shape) {
  if (settings.order == "together") return Planner(settings, model, shape).training_and_ranking();
  ClassifierOptions one = model;
  one.repetitions.resize(1);
  PlannedMemory training = Planner(settings, one, shape).training();
  PlannedMemory ranking = Planner(settings, model, shape).ranking_alone();
  return training.total() >= ranking.total() ? training : ranking;
}

}  // namespace sketchgrad::apps::xc
