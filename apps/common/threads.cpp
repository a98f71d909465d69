#include "sketchgrad/apps/common/threads.h"

#include <tbb/global_control.h>
#include <tbb/info.h>

#include <cstddef>

namespace sketchgrad::apps {

struct ThreadLimit::Control {
  tbb::global_control control;
};

ThreadLimit::ThreadLimit(int count)
    : count_(count > 0 ? count : tbb::info::default_concurrency()),
      control_(new Control{tbb::global_control(tbb::global_control::max_allowed_parallelism,
                                               static_cast<size_t>(count_))}) {}

ThreadLimit::~ThreadLimit() = default;

}  // namespace sketchgrad::apps
