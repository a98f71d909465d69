#include "sketchgrad/apps/xc/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <vector>

#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/task.h"
#include "sketchgrad/apps/xc/text_features.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

json answer(Classifier& model, const Examples& examples, const TextFeatures& features,
            const std::string& query, int64_t k, const Ranking& ranking) {
  const Batch batch = batch_of(features, std::array{query});
  const TopK top = model.predict(features_of(batch), ranking).top_k(k);
  json result = {{"query", query}, {"classes", json::array()}, {"scores", json::array()}};
  for (int64_t i = 0; i < k; ++i) {
    const int32_t id = top.ids.data<int32_t>()[i];
    if (id < 0) break;
    result["classes"].push_back(examples.class_name(id));
    result["scores"].push_back(top.scores.data<float>()[i]);
  }
  return result;
}

// The smallest of the values that `share` of them are not above.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size()) - 1;
  return values[static_cast<size_t>(share * last + 0.5)];
}

}  // namespace

void add_options(CLI::App& command, PredictSettings& settings) {
  command.add_option("--checkpoint", settings.checkpoint, "a checkpoint, or the folder of several")
      ->required();
  command
      .add_option("--data", settings.data,
                  "prepared set that the model was trained on, or one --like it: its class names")
      ->required();
  command.add_option("--queries", settings.queries, "file of queries, one a line [standard input]");
  command.add_option("--top", settings.k, "classes of an answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  add_options(command, settings.ranking);
  apps::add_options(command, settings.compute);
}

bool predict(const PredictSettings& settings, std::istream& queries, std::ostream& answers) {
  const Compute compute(settings.compute);
  const Examples examples = Examples::open(settings.data);
  if (examples.input().format != Format::tsv) {
    throw DataError(settings.data, 0,
                    "is of rows of features, not of texts: there is no telling the features of a "
                    "query");
  }
  const TextFeatures features(examples.input());
  TrainedClassifier trained(model_file(settings.checkpoint), examples, compute.device());
  const int64_t k = std::min(settings.k, examples.classes());
  const Ranking ranking = settings.ranking.ranking();
  const StopSignal stop;
  std::vector<double> seconds;
  for (std::string query; !StopSignal::requested() && std::getline(queries, query);) {
    if (query.ends_with('\r')) query.pop_back();
    const auto start = std::chrono::steady_clock::now();
    const json line = answer(trained.model, examples, features, query, k, ranking);
    // Bytes that are no UTF-8 become U+FFFD.
    answers << line.dump(-1, ' ', false, json::error_handler_t::replace) << std::endl;
    if (!answers) {
      throw IoError(fmt::format("[predict] an answer cannot be written: {}", std::strerror(errno)));
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds.push_back(taken.count());
  }
  if (!seconds.empty()) {
    print_line(stderr, fmt::format("xc: {} queries; an answer took {:.2f} ms in the median, {:.2f} "
                                   "ms at the 99th percentile",
                                   seconds.size(), 1e3 * quantile(seconds, 0.5),
                                   1e3 * quantile(seconds, 0.99)));
  }
  return !StopSignal::requested();
}

bool predict(const PredictSettings& settings) {
  if (settings.queries.empty()) return predict(settings, std::cin, std::cout);
  std::ifstream file(settings.queries);
  if (!file) throw DataError(settings.queries, 0, "cannot be opened");
  return predict(settings, file, std::cout);
}

}  // namespace sketchgrad::apps::xc
