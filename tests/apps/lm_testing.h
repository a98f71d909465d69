#pragma once

#include <cstdint>

#include "sketchgrad/apps/lm/train.h"
#include "sketchgrad/tests/apps/support.h"
#include "sketchgrad/tests/support/test_device.h"

namespace sketchgrad::apps::lm {

// Generated texts in a folder, and settings of a model that is small and yet large enough for the
// kernels to split their work.
struct SmallRun {
  TemporaryFolder folder;
  TrainSettings settings;

  SmallRun() {
    // An emulated GPU is slow.
    const uint32_t words = test::kTestDevice == kCpu ? 1500 : 200;
    settings.train = {folder.file("train", generated_text(900, words, 1))};
    settings.valid = folder.file("valid", generated_text(60, words, 2));
    settings.test = folder.file("test", generated_text(60, words, 3));
    settings.cache = folder / "cache";
    settings.model.embedding_dim = 72;
    settings.model.hidden = 24;
    settings.bptt = 12;
    settings.batch = 16;
    settings.steps = 14;
    settings.run.log_every = 3;
    settings.run.compute.threads = 1;
    settings.run.compute.device = to_string(test::kTestDevice);
  }
};

inline void use_sketches(TrainSettings& settings) {
  settings.optimizer.moment1 = "sketch:0.3";
  settings.optimizer.moment2 = "sketch:0.3";
}

}  // namespace sketchgrad::apps::lm
