#include "sketchgrad/apps/lm/evaluate.h"

#include <cmath>

#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/stop_signal.h"

namespace sketchgrad::apps::lm {

std::optional<LossMean> evaluate(LanguageModel& model, const ColumnBatches& batches,
                                 const std::string& label) {
  model.set_training(false);
  LstmState state = model.zero_state(batches.batch());
  LossMean mean;
  Progress progress(label, batches.segments());
  for (int64_t i = 0; i < batches.segments(); ++i) {
    if (StopSignal::requested()) return std::nullopt;
    const Segment segment = batches.segment(i);
    Tape tape(/*recording=*/false);
    const Variable loss = model.loss(tape, segment.inputs, segment.targets, state);
    mean.add(loss.value.item(), segment.tokens());
    if (progress.due()) {
      progress.update(i + 1, fmt::format("ppl {:.2f}", perplexity(mean.value())));
    }
  }
  return mean;
}

double perplexity(double loss) { return std::exp(loss); }

}  // namespace sketchgrad::apps::lm
