#include "sketchgrad/apps/xc/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <vector>

#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/xc/metrics.h"
#include "sketchgrad/apps/xc/sampled_protocol.h"
#include "sketchgrad/apps/xc/task.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

std::span<const int32_t> row_of(const Tensor& matrix, int64_t row) {
  const int64_t n = matrix.size(1);
  return {matrix.data<int32_t>() + row * n, static_cast<size_t>(n)};
}

std::vector<std::span<const int32_t>> labels_of(const Batch& batch) {
  std::vector<std::span<const int32_t>> result;
  const int32_t* const begin = batch.label_begin.data<int32_t>();
  for (int64_t r = 0; r < batch.rows(); ++r) {
    result.emplace_back(batch.labels.data<int32_t>() + begin[r],
                        static_cast<size_t>(begin[r + 1] - begin[r]));
  }
  return result;
}

// Propensities of the training set's classes; none where it is too small to have any.
std::optional<Propensities> propensities_of(const Examples& examples,
                                            const EvaluationSettings& settings) {
  if (examples.training_rows() < 3) return std::nullopt;
  const auto counts = examples.class_counts();
  const Tensor copy =
      Tensor::empty({examples.classes()}, {Category::data, "xc.class_counts"}, DType::int32);
  std::copy(counts.begin(), counts.end(), copy.data<int32_t>());
  return Propensities(copy, examples.training_rows(),
                      {settings.propensity_a, settings.propensity_b});
}

// One pass over the rows.
class Evaluation {
 public:
  Evaluation(Classifier& model, const Examples& examples, const EvaluationSettings& settings)
      : model_(model),
        ranking_(settings.ranking.ranking()),
        k_(std::min(kRanked, examples.classes())),
        metrics_(propensities_of(examples, settings)) {
    if (settings.sampled_ranks > 0) {
      sampled_.emplace(SampledProtocolOptions{.classes = examples.classes(),
                                              .samples = settings.sampled_ranks,
                                              .seed = model.options().seed});
    }
  }

  void add(const Batch& batch, int64_t first_row) {
    const Prediction prediction = model_.predict(features_of(batch), ranking_);
    const TopK top = prediction.top_k(k_);
    const auto labels = labels_of(batch);
    for (size_t r = 0; r < labels.size(); ++r) {
      metrics_.add(row_of(top.ids, static_cast<int64_t>(r)), labels[r]);
    }
    if (sampled_) add_sampled(prediction, labels, first_row);
  }
  json result() const {
    json result = metrics_.json();
    if (sampled_) result["sampled"] = sampled_->json();
    return result;
  }

 private:
  void add_sampled(const Prediction& prediction,
                   const std::vector<std::span<const int32_t>>& labels, int64_t first_row) {
    const Tensor ids = sampled_->candidates(first_row, labels);
    const Tensor scores = prediction.scores(ids);
    for (size_t r = 0; r < labels.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const std::span<const int32_t> of_row = row_of(ids, row);
      sampled_->add(of_row, {scores.data<float>() + row * ids.size(1), of_row.size()}, labels[r]);
    }
  }

  Classifier& model_;
  Ranking ranking_;
  int64_t k_;
  RankingMetrics metrics_;
  std::optional<SampledProtocol> sampled_;
};

}  // namespace

void check_ranking(const RankingSettings& settings, const ClassifierOptions& model) {
  const int64_t best = settings.best_buckets;
  check(!settings.proven || best > 0, "--proven goes with --best-buckets");
  if (!model.is_mach()) {
    check(best == 0, "--best-buckets is for models of MACH, this one is {}", model.model);
    return;
  }
  check(best <= model.buckets, "--best-buckets: the best {} of {} buckets", best, model.buckets);
  const MachAggregation aggregation = settings.ranking().aggregation;
  check(aggregation != MachAggregation::unbiased || model.buckets > 1,
        "--aggregation unbiased needs more than one bucket");
}

void check_settings(const EvaluationSettings& settings, const ClassifierOptions& model,
                    const Examples& examples) {
  const int64_t samples = settings.sampled_ranks;
  check(settings.propensity_a > 0 && settings.propensity_b > 0,
        "--propensity-a and --propensity-b are {} and {}, they must be above 0",
        settings.propensity_a, settings.propensity_b);
  check_ranking(settings.ranking, model);
  check(samples == 0 || model.is_mach(), "--sampled-ranks is for models of MACH, this one is {}",
        model.model);
  check(samples == 0 || samples + examples.max_labels_per_row() <= examples.classes(),
        "--sampled-ranks: {} classes beside up to {} labels of a row, there are {}", samples,
        examples.max_labels_per_row(), examples.classes());
}

std::optional<json> evaluate(Classifier& model, const Examples& examples,
                             const EvaluationSettings& settings) {
  check_settings(settings, model.options(), examples);
  model.set_training(false);
  model.prepare(settings.ranking.ranking());
  const int64_t rows =
      settings.limit > 0 ? std::min(settings.limit, examples.rows()) : examples.rows();
  Evaluation evaluation(model, examples, settings);
  Progress progress("rank", rows);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t begin = 0; begin < rows; begin += settings.batch) {
    if (StopSignal::requested()) return std::nullopt;
    const int64_t count = std::min(settings.batch, rows - begin);
    evaluation.add(examples.batch(RowNumbers(begin, count).all()), begin);
    if (progress.due()) progress.update(begin + count, "rows");
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  json result = evaluation.result();
  result["ranked_rows_per_second"] = static_cast<double>(rows) / seconds.count();
  result["aggregation"] = settings.ranking.aggregation;
  result["best_buckets"] = settings.ranking.best_buckets;
  result["proven"] = settings.ranking.proven;
  return result;
}

void print_scores(const json& scores) {
  const auto print = [](const std::string& name, const json& value) {
    if (value.is_number()) {
      print_line(stdout, fmt::format("{:<22}{:>10.4f}", name, value.get<double>()));
    }
  };
  for (const char* name : {"precision_at_1", "precision_at_3", "precision_at_5", "recall_at_1",
                           "recall_at_10", "recall_at_100", "psp_at_1", "psp_at_3", "psp_at_5"}) {
    if (scores.contains(name)) print(name, scores[name]);
  }
  if (scores.contains("sampled")) {
    for (const char* name :
         {"sampled_recall_at_1", "sampled_recall_at_10", "sampled_recall_at_100"}) {
      print(name, scores["sampled"].value(name, json()));
    }
  }
  print_line(stdout, fmt::format("{:<22}{:>10.0f}", "rows ranked per second",
                                 scores["ranked_rows_per_second"].get<double>()));
}

void add_options(CLI::App& command, EvalSettings& settings) {
  command.add_option("--checkpoint", settings.checkpoint, kModelHelp)->required();
  command
      .add_option("--data", settings.data,
                  "test set, prepared --like the set that the model was trained on")
      ->required();
  command.add_option("--report", settings.report, "JSON file for the results");
  add_options(command, settings.evaluation);
  apps::add_options(command, settings.compute);
}

bool evaluate_and_print(const EvalSettings& settings) {
  check_outputs({{"--report", settings.report}},
                named_paths("--checkpoint", model_files(settings.checkpoint)) +
                    named_paths("--data", {settings.data}));
  if (!settings.report.empty()) check_replaceable("report", settings.report);
  const Compute compute(settings.compute);
  const Examples examples = Examples::open(settings.data);
  TrainedClassifier trained(model_file(settings.checkpoint), examples, compute.device());
  const StopSignal stop;
  std::optional<json> scores = evaluate(trained.model, examples, settings.evaluation);
  if (!scores) return false;
  print_scores(*scores);
  if (!settings.report.empty()) {
    (*scores)["checkpoint"] = settings.checkpoint;
    (*scores)["data"] = settings.data;
    write_json(settings.report, *scores);
  }
  return true;
}

}  // namespace sketchgrad::apps::xc
