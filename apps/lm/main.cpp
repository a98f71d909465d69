// lm: trains, scores and runs LSTM language models.
#include <CLI/CLI.hpp>

#include <string>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/lm/generate.h"
#include "sketchgrad/apps/lm/score.h"
#include "sketchgrad/apps/lm/settings.h"
#include "sketchgrad/apps/lm/train.h"

namespace {

using namespace sketchgrad::apps;

int stopped(const std::string& what) {
  print_line(stderr, "lm: stopped by a signal; " + what);
  return kExitStopped;
}

int run_train(lm::TrainSettings& settings) {
  lm::complete(settings);
  if (lm::train(settings).finished) return 0;
  const std::string& folder = settings.run.checkpoint;
  return stopped(folder.empty() ? "there is no --checkpoint to go on from"
                                : "--resume goes on from the checkpoint in " + folder);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains, scores and runs LSTM language models.", "lm");
  app.require_subcommand(1);
  lm::TrainSettings train_settings;
  lm::EvalSettings eval_settings;
  lm::GenerateSettings generate_settings;
  CLI::App& train = *app.add_subcommand("train", "train a model and score it");
  CLI::App& eval = *app.add_subcommand("eval", "perplexity of a text by a trained model");
  CLI::App& generate = *app.add_subcommand("generate", "text by a trained model");
  lm::add_options(train, train_settings);
  add_config_option(train, "lm");
  lm::add_options(eval, eval_settings);
  lm::add_options(generate, generate_settings);

  train_settings.run.arguments = command_of("lm", arguments_of(argc, argv));
  return run_program("lm", app, [&] {
    parse_with_config(app, arguments_of(argc, argv), train, "lm");
    if (train.parsed()) return run_train(train_settings);
    if (eval.parsed()) return lm::score_text(eval_settings) ? 0 : stopped("nothing was scored");
    lm::print_generated(generate_settings);
    return 0;
  });
}
