#include "sketchgrad/apps/lm/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/print.h"

namespace sketchgrad::apps::lm {

namespace {

// A place in `best`, drawn with probability proportional to p^(1 / temperature).
size_t draw(const TopK& best, double temperature, kernels::PhiloxKey key) {
  const std::vector<float> scores = best.scores.to_vector<float>();
  std::vector<double> cumulative;
  double sum = 0;
  for (const float score : scores) {
    // The first is the largest: no weight is above 1.
    sum += std::exp((static_cast<double>(score) - scores[0]) / temperature);
    cumulative.push_back(sum);
  }
  const double at = sum * kernels::uniform_from_bits(kernels::philox_bits(key, 0));
  const auto place = std::upper_bound(cumulative.begin(), cumulative.end(), at);
  return std::min(static_cast<size_t>(place - cumulative.begin()), scores.size() - 1);
}

// Words with single spaces between them.
class Writer {
 public:
  explicit Writer(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}
  void add(int32_t id) {
    if (id == vocabulary_.end_of_line()) {
      text_.push_back('\n');
      return;
    }
    if (!text_.empty() && text_.back() != '\n') text_.push_back(' ');
    text_ += vocabulary_.word(id);
  }
  const std::string& text() const { return text_; }

 private:
  const Vocabulary& vocabulary_;
  std::string text_;
};

Tensor column(const std::vector<int32_t>& ids) {
  return Tensor::from(ids, {static_cast<int64_t>(ids.size()), 1}, {Category::data, "prompt"});
}

}  // namespace

void add_options(CLI::App& command, GenerateSettings& settings) {
  command.add_option("--checkpoint", settings.checkpoint, kCheckpointHelp)->required();
  command.add_option("--prompt", settings.prompt,
                     "text to go on from, in tokens as the training text has them");
  command.add_option("--length", settings.length, "tokens to add")
      ->check(whole_in(1, int64_t{1} << 24))
      ->capture_default_str();
  command
      .add_option("--temperature", settings.temperature,
                  "below 1: likelier words more often; 0: the likeliest only")
      ->check(not_negative())
      ->capture_default_str();
  command.add_option("--top-k", settings.top_k, "draw from so many likeliest words; 0: from all")
      ->check(whole_from(0))
      ->capture_default_str();
  command.add_option("--seed", settings.seed, "of the draws")
      ->check(any_seed())
      ->capture_default_str();
  apps::add_options(command, settings.compute);
}

std::string generate(TrainedModel& trained, const GenerateSettings& settings) {
  const Vocabulary& vocabulary = trained.vocabulary;
  const int64_t all = vocabulary.size();
  const int64_t wanted = settings.temperature == 0 ? 1 : settings.top_k;
  const int64_t candidates = wanted == 0 ? all : std::min(wanted, all);
  Rng rng(settings.seed);
  Writer writer(vocabulary);
  // A text begins where a line ended.
  std::vector<int32_t> inputs = {vocabulary.end_of_line()};
  for_each_token(settings.prompt, [&](std::string_view word) {
    inputs.push_back(vocabulary.id(word));
    writer.add(inputs.back());
  });
  LstmState state = trained.model.zero_state(1);
  for (int64_t i = 0; i < settings.length; ++i) {
    const TopK best = trained.model.next_words(column(inputs), state, candidates);
    const size_t place = candidates == 1 ? 0 : draw(best, settings.temperature, rng.next());
    const int32_t id = best.ids.to_vector<int32_t>()[place];
    writer.add(id);
    inputs = {id};
  }
  return writer.text();
}

void print_generated(const GenerateSettings& settings) {
  const Compute compute(settings.compute);
  TrainedModel trained(load_without_optimizer(readable_checkpoint(settings.checkpoint)),
                       compute.device());
  print_line(stdout, generate(trained, settings));
}

}  // namespace sketchgrad::apps::lm
