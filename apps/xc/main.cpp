// xc: extreme classification, from text or sparse features to some of millions of classes.
#include <CLI/CLI.hpp>

#include <string>

#include "sketchgrad/apps/common/command_line.h"
#include "sketchgrad/apps/common/config_file.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/xc/evaluate.h"
#include "sketchgrad/apps/xc/merge.h"
#include "sketchgrad/apps/xc/predict.h"
#include "sketchgrad/apps/xc/prepare.h"
#include "sketchgrad/apps/xc/train.h"

namespace {

using namespace sketchgrad::apps;

int stopped(const std::string& what) {
  print_line(stderr, "xc: stopped by a signal; " + what);
  return kExitStopped;
}

int run_train(xc::TrainSettings& settings) {
  xc::complete(settings);
  if (settings.plan) {
    print_line(stdout, xc::plan(settings));
    return 0;
  }
  if (xc::train(settings).finished) return 0;
  const std::string& folder = settings.run.checkpoint;
  return stopped(folder.empty() ? "there is no --checkpoint to go on from"
                                : "--resume goes on from the checkpoint in " + folder);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Learns to tell millions of classes apart.", "xc");
  app.require_subcommand(1);
  xc::PrepareSettings prepare_settings;
  xc::TrainSettings train_settings;
  xc::EvalSettings eval_settings;
  xc::PredictSettings predict_settings;
  xc::MergeSettings merge_settings;
  CLI::App& prepare = *app.add_subcommand("prepare", "make a set of examples from text files");
  CLI::App& train = *app.add_subcommand("train", "train a model and rank a test set");
  CLI::App& eval = *app.add_subcommand("eval", "rank a test set by a trained model");
  CLI::App& predict = *app.add_subcommand("predict", "classes of texts, by a trained model");
  CLI::App& merge = *app.add_subcommand("merge", "join repetitions that were trained apart");
  xc::add_options(prepare, prepare_settings);
  xc::add_options(train, train_settings);
  add_config_option(train, "xc");
  xc::add_options(eval, eval_settings);
  xc::add_options(predict, predict_settings);
  xc::add_options(merge, merge_settings);

  train_settings.run.arguments = command_of("xc", arguments_of(argc, argv));
  return run_program("xc", app, [&] {
    parse_with_config(app, arguments_of(argc, argv), train, "xc");
    if (prepare.parsed()) {
      return xc::prepare_and_print(prepare_settings) ? 0 : stopped("nothing was written");
    }
    if (train.parsed()) return run_train(train_settings);
    if (eval.parsed()) {
      return xc::evaluate_and_print(eval_settings) ? 0 : stopped("nothing was scored");
    }
    if (predict.parsed()) {
      return xc::predict(predict_settings) ? 0 : stopped("not all was answered");
    }
    xc::merge_and_print(merge_settings);
    return 0;
  });
}
