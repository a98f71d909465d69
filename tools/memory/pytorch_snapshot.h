#pragma once

#include <string>

#include "sketchgrad/apps/common/memory_profile_file.h"

namespace sketchgrad::memory {

// The stretches recorded in full as a pickle of what torch.cuda.memory._snapshot() returns, for
// PyTorch's viewer (https://pytorch.org/memory_viz) and torch/cuda/_memory_viz.py. Sizes, order and
// times are the profile's; addresses are made up: each block lies at the first gap that it fits, in
// one segment. What is live when a stretch begins and was not when the one before it ended is
// allocated at its begin, and the other way round.
std::string pytorch_snapshot(const apps::ProfiledRun& run);

}  // namespace sketchgrad::memory
