#include "sketchgrad/apps/lm/score.h"

#include <fmt/format.h>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/numbers.h"
#include "sketchgrad/apps/common/output_file.h"
#include "sketchgrad/apps/common/output_paths.h"
#include "sketchgrad/apps/common/print.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/lm/evaluate.h"
#include "sketchgrad/apps/lm/task.h"

namespace sketchgrad::apps::lm {

void add_options(CLI::App& command, EvalSettings& settings) {
  const CLI::Validator size = whole_in(1, int64_t{1} << 24);
  command.add_option("--checkpoint", settings.checkpoint, kCheckpointHelp)->required();
  command.add_option("--data", settings.data, "text to score; plain, .xz or .gz")->required();
  command.add_option("--report", settings.report, "JSON file for the results");
  command.add_option("--eval-batch", settings.batch, "columns side by side")
      ->check(size)
      ->capture_default_str();
  command.add_option("--bptt", settings.bptt, "tokens a column at a time")
      ->check(size)
      ->capture_default_str();
  apps::add_options(command, settings.compute);
}

bool score_text(const EvalSettings& settings) {
  check_outputs({{"--report", settings.report}},
                named_paths("--checkpoint", checkpoint_files(settings.checkpoint)) +
                    named_paths("--data", {settings.data}));
  if (!settings.report.empty()) check_replaceable("report", settings.report);
  const Compute compute(settings.compute);
  TrainedModel trained(load_without_optimizer(readable_checkpoint(settings.checkpoint)),
                       compute.device());
  const TokenIds ids = read_text(settings.data, trained.vocabulary);
  const StopSignal stop;
  const ColumnBatches batches(ids, settings.batch, settings.bptt, /*limit=*/0,
                              fmt::format("--data {}:", settings.data));
  const auto mean = evaluate(trained.model, batches, "eval");
  if (!mean) return false;
  print_line(stdout, fmt::format("perplexity {:.4f} ({} tokens)", perplexity(mean->value()),
                                 mean->examples));
  if (!settings.report.empty()) {
    write_json(settings.report, {{"perplexity", perplexity(mean->value())},
                                 {"loss", mean->value()},
                                 {"tokens", mean->examples},
                                 {"checkpoint", settings.checkpoint},
                                 {"data", settings.data}});
  }
  return true;
}

}  // namespace sketchgrad::apps::lm
