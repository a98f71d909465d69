#include "sketchgrad/apps/xc/predict.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <streambuf>
#include <system_error>
#include <vector>

#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/xc/evaluate.h"
#include "sketchgrad/apps/xc/examples.h"
#include "sketchgrad/apps/xc/task.h"
#include "sketchgrad/apps/xc/text_features.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

// What a descriptor gives, as soon as it is there. It ends where a signal asks to stop, which a
// std::filebuf would not notice while it waits.
class QueryBuffer final : public std::streambuf {
 public:
  explicit QueryBuffer(int descriptor) : descriptor_(descriptor) {}

 private:
  // An exception is how a buffer tells the stream of an error: the stream is bad() then.
  int_type underflow() override {
    wait();
    if (StopSignal::requested()) return traits_type::eof();
    const ssize_t count = ::read(descriptor_, bytes_.data(), bytes_.size());
    if (count < 0 && errno == EINTR) return underflow();
    if (count < 0) throw std::system_error(errno, std::generic_category());
    if (count == 0) return traits_type::eof();
    setg(bytes_.data(), bytes_.data(), bytes_.data() + count);
    return traits_type::to_int_type(bytes_[0]);
  }
  void wait() const {
    std::array<pollfd, 2> watched{
        {{descriptor_, POLLIN, 0}, {StopSignal::descriptor(), POLLIN, 0}}};
    while (::poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) {
      if (StopSignal::requested()) return;
    }
  }

  int descriptor_;
  std::array<char, 1 << 16> bytes_{};
};

// False at the end, and where a signal asks to stop: what it cut off is no query.
bool next_query(std::istream& queries, std::string& query) {
  if (StopSignal::requested() || !std::getline(queries, query) || StopSignal::requested()) {
    return false;
  }
  if (query.ends_with('\r')) query.pop_back();
  return true;
}

json answer(Classifier& model, const Examples& examples, const TextFeatures& features,
            const std::string& query, int64_t k, const Ranking& ranking) {
  const Batch batch = batch_of(features, examples.feature_weights(), std::array{query});
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

}  // namespace

void add_options(CLI::App& command, PredictSettings& settings) {
  command.add_option("--checkpoint", settings.checkpoint, kModelHelp)->required();
  command
      .add_option("--data", settings.data,
                  "prepared set that the model was trained on, or one --like it: its class names")
      ->required();
  command.add_option("--queries", settings.queries, "file of queries, one a line [standard input]");
  command.add_option("--top", settings.k, "classes of an answer")
      ->check(whole_in(1, int64_t{1} << 20))
      ->capture_default_str();
  add_options(command, settings.ranking);
  apps::add_options(command, settings.compute);
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
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
  check_ranking(settings.ranking, trained.model.options());
  const int64_t k = std::min(settings.k, examples.classes());
  const Ranking ranking = settings.ranking.ranking();
  trained.model.prepare(ranking);
  const StopSignal stop;
  std::vector<double> seconds;
  for (std::string query; next_query(queries, query);) {
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
  if (queries.bad()) {
    throw IoError(fmt::format("[predict] the queries cannot be read: {}", std::strerror(errno)));
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
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file;
  int descriptor = STDIN_FILENO;
  if (!settings.queries.empty()) {
    if (std::filesystem::is_directory(settings.queries)) {
      throw DataError(settings.queries, 0, "is a directory, no file of queries");
    }
    file.reset(std::fopen(settings.queries.c_str(), "re"));
    if (!file) throw DataError(settings.queries, 0, "cannot be opened");
    descriptor = ::fileno(file.get());
  }
  QueryBuffer buffer(descriptor);
  std::istream queries(&buffer);
  return predict(settings, queries, std::cout);
}

}  // namespace sketchgrad::apps::xc
