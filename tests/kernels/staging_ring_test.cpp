#include "sketchgrad/kernels/staging_ring.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <numeric>
#include <thread>
#include <vector>

using namespace sketchgrad::kernels;

namespace {

constexpr size_t kSlots = 3;
constexpr size_t kSlotBytes = 8;

// Not inlined: with the size known to be small, GCC 12 warns of what its own vector loop never
// does.
[[gnu::noinline]] std::vector<uint8_t> counting(size_t count, uint8_t first) {
  std::vector<uint8_t> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

// Runs nothing before it is told to, or before somebody waits.
class LateStream final : public StagingStream {
 public:
  void copy(const void* staged, void* to, size_t bytes) override {
    queue_.push_back({staged, to, bytes, kNoSlot});
    ++copies;
    most_bytes = std::max(most_bytes, bytes);
  }
  void record(size_t slot) override { queue_.push_back({nullptr, nullptr, 0, slot}); }
  void wait(size_t slot) override {
    if (!is_queued(slot)) return;
    ++waits;
    while (is_queued(slot)) run_one();
  }
  void run_copies(int count) {
    for (; count > 0; --count) {
      run_one();
      run_one();  // its mark
    }
  }
  void run_all() {
    while (!queue_.empty()) run_one();
  }

  int copies = 0;
  int waits = 0;
  size_t most_bytes = 0;

 private:
  static constexpr size_t kNoSlot = SIZE_MAX;
  struct Work {
    const void* staged;
    void* to;
    size_t bytes;
    size_t slot;
  };
  bool is_queued(size_t slot) const {
    for (const Work& work : queue_) {
      if (work.slot == slot) return true;
    }
    return false;
  }
  void run_one() {
    const Work work = queue_.front();
    queue_.pop_front();
    if (work.slot == kNoSlot) std::memcpy(work.to, work.staged, work.bytes);
  }

  std::deque<Work> queue_;
};

struct Fixture {
  std::vector<char> memory = std::vector<char>(kSlots * kSlotBytes);
  StagingRing ring{memory.data(), kSlots, kSlotBytes};
  LateStream stream;

  // Copies `count` bytes that begin with `first`, from a place that changes right afterwards.
  void copy(std::vector<uint8_t>& to, size_t count, uint8_t first) {
    std::vector<uint8_t> from = counting(count, first);
    to.assign(count, 0);
    ring.copy(stream, from.data(), to.data(), count);
    std::fill(from.begin(), from.end(), uint8_t{0xee});
  }
};

}  // namespace

TEST_CASE("staging: nothing is waited for as long as a slot is free") {
  Fixture f;
  std::vector<uint8_t> to[kSlots];
  for (size_t i = 0; i < kSlots; ++i) f.copy(to[i], kSlotBytes, static_cast<uint8_t>(10 * i));
  CHECK(f.stream.waits == 0);
  for (const auto& values : to) CHECK(values == std::vector<uint8_t>(kSlotBytes));
  f.stream.run_all();
  for (size_t i = 0; i < kSlots; ++i) {
    CHECK(to[i] == counting(kSlotBytes, static_cast<uint8_t>(10 * i)));
  }
}

TEST_CASE("staging: a full ring waits for its oldest copy, and for no other") {
  Fixture f;
  std::vector<uint8_t> to[kSlots + 1];
  for (size_t i = 0; i <= kSlots; ++i) f.copy(to[i], 5, static_cast<uint8_t>(10 * i));
  CHECK(f.stream.waits == 1);
  CHECK(to[0] == counting(5, 0));
  for (size_t i = 1; i <= kSlots; ++i) CHECK(to[i] == std::vector<uint8_t>(5));
  f.stream.run_all();
  for (size_t i = 0; i <= kSlots; ++i) CHECK(to[i] == counting(5, static_cast<uint8_t>(10 * i)));
}

TEST_CASE("staging: a slot whose copy has run is free without waiting") {
  Fixture f;
  constexpr size_t kCopies = 20;
  std::vector<uint8_t> to[kCopies];
  for (size_t i = 0; i < kCopies; ++i) {
    f.copy(to[i], 1 + i % kSlotBytes, static_cast<uint8_t>(i));
    if (i + 1 >= kSlots) f.stream.run_copies(1);
  }
  CHECK(f.stream.waits == 0);
  f.stream.run_all();
  for (size_t i = 0; i < kCopies; ++i) {
    CHECK(to[i] == counting(1 + i % kSlotBytes, static_cast<uint8_t>(i)));
  }
}

TEST_CASE("staging: no slot is overwritten before its copy has run, however late") {
  Fixture f;
  constexpr size_t kCopies = 200;
  std::vector<uint8_t> to[kCopies];
  uint64_t state = 1;
  int queued = 0;
  for (size_t i = 0; i < kCopies; ++i) {
    const int waits = f.stream.waits;
    const bool full = queued == static_cast<int>(kSlots);
    f.copy(to[i], 1 + i % kSlotBytes, static_cast<uint8_t>(i));
    CHECK(f.stream.waits == waits + (full ? 1 : 0));
    queued += full ? 0 : 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    const int runs = std::min(queued, static_cast<int>((state >> 40) % 3));
    f.stream.run_copies(runs);
    queued -= runs;
  }
  f.stream.run_all();
  for (size_t i = 0; i < kCopies; ++i) {
    CHECK(to[i] == counting(1 + i % kSlotBytes, static_cast<uint8_t>(i)));
  }
}

TEST_CASE("staging: sizes around those of a slot and of the ring") {
  for (const size_t bytes : {size_t{0}, size_t{1}, kSlotBytes - 1, kSlotBytes, kSlotBytes + 1,
                             kSlots * kSlotBytes, kSlots * kSlotBytes + 1, size_t{100}}) {
    CAPTURE(bytes);
    Fixture f;
    std::vector<uint8_t> to;
    f.copy(to, bytes, 1);
    const size_t pieces = (bytes + kSlotBytes - 1) / kSlotBytes;
    CHECK(f.stream.copies == static_cast<int>(pieces));
    CHECK(f.stream.most_bytes == std::min(bytes, kSlotBytes));
    CHECK(f.stream.waits == static_cast<int>(pieces > kSlots ? pieces - kSlots : 0));
    f.stream.run_all();
    CHECK(to == counting(bytes, 1));
  }
}

TEST_CASE("staging: nothing is copied from null") {
  Fixture f;
  f.ring.copy(f.stream, nullptr, nullptr, 0);
  CHECK(f.stream.copies == 0);
}

TEST_CASE("staging: one slot is enough") {
  char slot = 0;
  StagingRing ring(&slot, 1, 1);
  LateStream stream;
  const std::vector<uint8_t> from = counting(9, 3);
  std::vector<uint8_t> to(9);
  ring.copy(stream, from.data(), to.data(), from.size());
  stream.run_all();
  CHECK(to == from);
}

TEST_CASE("staging: threads may share a ring") {
  Fixture f;
  constexpr int kThreads = 4;
  constexpr int kCopies = 100;
  std::vector<std::vector<uint8_t>> to(kThreads * kCopies);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCopies; ++i) {
        f.copy(to[static_cast<size_t>(t * kCopies + i)], 13, static_cast<uint8_t>(t + i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  f.stream.run_all();
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kCopies; ++i) {
      CHECK(to[static_cast<size_t>(t * kCopies + i)] == counting(13, static_cast<uint8_t>(t + i)));
    }
  }
}
