#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"

// Test support: kernel bodies for lane groups (lane_group.h) on the CPU. Lanes are fibers of the
// calling thread that take turns: from one exchange or sync to the next each runs alone, in an
// order drawn anew every time, so that a lane that reads what another one has yet to write, or has
// already overwritten, gives other results for other seeds.
namespace sketchgrad::test {

class EmulatedWarp {
 public:
  EmulatedWarp(int lanes, uint32_t order_seed);
  ~EmulatedWarp();
  EmulatedWarp(const EmulatedWarp&) = delete;
  EmulatedWarp& operator=(const EmulatedWarp&) = delete;

  // body(lane) on all lanes. Throws what a lane throws, and std::logic_error where some lanes are
  // done while others wait for them.
  void run(const std::function<void(int)>& body);

  // From inside a lane: waits until all lanes are here.
  void meet();
  std::byte* slot(int lane) { return slots_[static_cast<size_t>(lane)].bytes; }
  int lanes() const { return static_cast<int>(slots_.size()); }
  static constexpr size_t kSlotBytes = 16;

 private:
  struct Fibers;
  struct Slot {
    std::byte bytes[kSlotBytes];
  };
  std::vector<Slot> slots_;
  std::mt19937 order_;
  std::unique_ptr<Fibers> fibers_;
};

class EmulatedGroup {
 public:
  EmulatedGroup(EmulatedWarp& warp, int lane) : warp_(&warp), lane_(lane) {}
  int lane() const { return lane_; }
  int lanes() const { return warp_->lanes(); }
  void sync() const { warp_->meet(); }
  template <class T>
  T exchange(T value, int mask) const {
    static_assert(sizeof(T) <= EmulatedWarp::kSlotBytes && std::is_trivially_copyable_v<T>);
    std::memcpy(warp_->slot(lane_), &value, sizeof(T));
    warp_->meet();
    std::memcpy(&value, warp_->slot(lane_ ^ mask), sizeof(T));
    warp_->meet();
    return value;
  }

 private:
  EmulatedWarp* warp_;
  int lane_;
};

// A loop policy for what the GPU does: serial loops, and lane groups on an emulated warp.
struct EmulatedPolicy : kernels::SerialPolicy {
  uint32_t order_seed = 0;
};

template <class Body>
void for_each_unit(const EmulatedPolicy& policy, int64_t units, int lanes, const Body& body) {
  EmulatedWarp warp(lanes, policy.order_seed);
  for (int64_t unit = 0; unit < units; ++unit) {
    warp.run([&](int lane) { body(EmulatedGroup(warp, lane), unit); });
  }
}

}  // namespace sketchgrad::test
