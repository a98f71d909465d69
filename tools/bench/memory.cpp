#include <memory>
#include <optional>
#include <vector>

#include "sketchgrad/framework/memory_profile.h"
#include "sketchgrad/framework/upstream_memory.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

// What a training step of the language model does to the allocator: so many arrays, some at a time.
constexpr int kArrays = 90;
constexpr int kAtATime = 6;
constexpr int kStanding = 60;  // parameters and state

class StepOfAllocations {
 public:
  explicit StepOfAllocations(bool profiled) {
    for (int i = 0; i < kStanding; ++i) memory_.allocate(4096, Category::parameter, "weight");
    if (profiled) profile_.emplace(memory_);
  }

  void run() {
    if (profile_) profile_->begin("step", ++step_);
    const MemoryScope phase("forward");
    std::vector<void*> arrays(kAtATime);
    for (int first = 0; first < kArrays; first += kAtATime) {
      const MemoryScope layer("lstm.backward");
      for (int i = 0; i < kAtATime; ++i) {
        arrays[static_cast<size_t>(i)] =
            memory_.allocate(64 * (first + i + 1), Category::workspace, "lstm.grad_h_l0");
      }
      for (void* const array : arrays) memory_.release(array);
    }
  }

 private:
  Allocator memory_{make_host_memory()};
  std::optional<MemoryProfile> profile_;
  int64_t step_ = 0;
};

void run_profile(const Options& options, Report& report) {
  report.begin_group("memory.profile", "90 arrays taken and released, 60 standing");
  const auto plain = std::make_shared<StepOfAllocations>(false);
  const auto profiled = std::make_shared<StepOfAllocations>(true);
  const double bytes = 2.0 * kArrays * sizeof(RecordedEvent);
  run_cases({{"the allocator", {}, [=] { plain->run(); }},
             {"with a profile", {bytes, 0, "180 events written", true}, [=] { profiled->run(); }}},
            options, report);
}

}  // namespace

std::vector<Group> memory_groups() { return {{"memory.profile", run_profile}}; }

}  // namespace sketchgrad::bench
