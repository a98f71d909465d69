#include "sketchgrad/tests/support/emulated_warp.h"

#include <ucontext.h>

#include <exception>
#include <numeric>
#include <stdexcept>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace sketchgrad::test {

namespace {

// Small enough for the heap to keep: warps are made for every loop.
constexpr size_t kStackBytes = size_t{96} << 10;

// A stack of its own, and what the sanitizers have to be told when it is switched to.
struct Fiber {
  ucontext_t context{};
  std::unique_ptr<char[]> stack;
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
  void* tsan = nullptr;
};

void switch_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.tsan, 0);
#endif
  swapcontext(&from.context, &to.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace

struct EmulatedWarp::Fibers {
  Fiber scheduler;
  std::vector<Fiber> lanes;
  std::vector<bool> done;
  int current = 0;
  const std::function<void(int)>* body = nullptr;
  std::exception_ptr error;

  void resume(int lane) {
    current = lane;
    switch_fiber(scheduler, lanes[static_cast<size_t>(lane)]);
  }
  void pause() { switch_fiber(lanes[static_cast<size_t>(current)], scheduler); }

  // A lane's fiber: one turn of the loop for each run of the warp.
  void loop() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler.bottom, &scheduler.bytes);
#endif
    for (;;) {
      try {
        (*body)(current);
      } catch (...) {
        if (!error) error = std::current_exception();
      }
      done[static_cast<size_t>(current)] = true;
      pause();
    }
  }
  // makecontext passes int arguments only.
  static void enter(unsigned high, unsigned low) {
    const uintptr_t address = static_cast<uintptr_t>(high) << 32 | low;
    reinterpret_cast<Fibers*>(address)->loop();
  }
};

EmulatedWarp::EmulatedWarp(int lanes, uint32_t order_seed)
    : slots_(static_cast<size_t>(lanes)), order_(order_seed), fibers_(std::make_unique<Fibers>()) {
  fibers_->lanes.resize(static_cast<size_t>(lanes));
  fibers_->done.resize(static_cast<size_t>(lanes));
#if defined(__SANITIZE_THREAD__)
  fibers_->scheduler.tsan = __tsan_get_current_fiber();
#endif
  const auto address = reinterpret_cast<uintptr_t>(fibers_.get());
  for (Fiber& fiber : fibers_->lanes) {
    fiber.stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    fiber.bottom = fiber.stack.get();
    fiber.bytes = kStackBytes;
#if defined(__SANITIZE_THREAD__)
    fiber.tsan = __tsan_create_fiber(0);
#endif
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::enter), 2,
                static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  }
}

EmulatedWarp::~EmulatedWarp() {
#if defined(__SANITIZE_THREAD__)
  for (Fiber& fiber : fibers_->lanes) __tsan_destroy_fiber(fiber.tsan);
#endif
}

void EmulatedWarp::run(const std::function<void(int)>& body) {
  Fibers& fibers = *fibers_;
  fibers.body = &body;
  fibers.error = nullptr;
  std::fill(fibers.done.begin(), fibers.done.end(), false);
  std::vector<int> turn(slots_.size());
  std::iota(turn.begin(), turn.end(), 0);
  for (;;) {
    std::shuffle(turn.begin(), turn.end(), order_);
    for (const int lane : turn) {
      if (!fibers.done[static_cast<size_t>(lane)]) fibers.resume(lane);
    }
    const auto done = std::count(fibers.done.begin(), fibers.done.end(), true);
    if (fibers.error) std::rethrow_exception(fibers.error);
    if (done == lanes()) return;
    if (done > 0) throw std::logic_error("lanes have left while others wait for them");
  }
}

void EmulatedWarp::meet() { fibers_->pause(); }

}  // namespace sketchgrad::test
