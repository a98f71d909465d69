#include "sketchgrad/framework/memory.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sketchgrad/framework/tensor.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/support/memory_log.h"

namespace sketchgrad {
namespace {

struct UpstreamLog {
  int64_t capacity = int64_t{1} << 40;
  int64_t alignment = 64;
  std::optional<kernels::cuda::DeviceMemory> device;
  int64_t held = 0;
  int64_t most_held = 0;
  int allocations = 0;
  int releases = 0;
  int refusals = 0;
  std::vector<std::pair<char, int64_t>> calls;  // 'a' or 'r', bytes
};

// Hands out addresses that nobody may touch, and never the same one twice.
class FakeUpstream final : public UpstreamMemory {
 public:
  explicit FakeUpstream(UpstreamLog& log) : log_(log) {}
  void* allocate(size_t bytes) override {
    const auto size = static_cast<int64_t>(bytes);
    if (log_.held + size > log_.capacity) {
      ++log_.refusals;
      return nullptr;
    }
    ++log_.allocations;
    log_.calls.emplace_back('a', size);
    log_.held += size;
    log_.most_held = std::max(log_.most_held, log_.held);
    next_ += bytes + 4096 - bytes % 4096;
    return reinterpret_cast<void*>(next_);
  }
  void release(void*, size_t bytes) noexcept override {
    ++log_.releases;
    log_.calls.emplace_back('r', static_cast<int64_t>(bytes));
    log_.held -= static_cast<int64_t>(bytes);
  }
  int64_t alignment() const override { return log_.alignment; }
  std::optional<kernels::cuda::DeviceMemory> device_memory() const override { return log_.device; }

 private:
  UpstreamLog& log_;
  uintptr_t next_ = uintptr_t{1} << 44;
};

struct Fixture {
  UpstreamLog log;
  Allocator memory{std::make_unique<FakeUpstream>(log)};
  void* take(int64_t bytes, Category category = Category::activation, const char* name = "x") {
    return memory.allocate(bytes, category, name);
  }
};

constexpr int64_t kMiB = int64_t{1} << 20;

// A device whose one stream lags: queued work runs when somebody waits, as those do who take memory
// back.
class LateStream {
 public:
  void queue(std::function<void()> work) { queue_.push_back(std::move(work)); }
  void wait() {
    while (!queue_.empty()) {
      queue_.front()();
      queue_.pop_front();
    }
  }
  size_t queued() const { return queue_.size(); }

 private:
  std::deque<std::function<void()>> queue_;
};

class LateUpstream final : public UpstreamMemory {
 public:
  LateUpstream(LateStream& stream, size_t capacity) : stream_(stream), left_(capacity) {}
  void* allocate(size_t bytes) override {
    if (bytes > left_) return nullptr;
    left_ -= bytes;
    return ::operator new(bytes);
  }
  void release(void* pointer, size_t bytes) noexcept override {
    stream_.wait();
    std::memset(pointer, 0xEE, bytes);  // whoever reads it later reads nobody's value
    ::operator delete(pointer);
    left_ += bytes;
  }

 private:
  LateStream& stream_;
  size_t left_;
};

TEST_CASE("figures are the bytes asked for, reserved the rounded ones") {
  Fixture f;
  void* a = f.take(1, Category::parameter);
  void* b = f.take(100, Category::gradient);
  void* c = f.take(5000, Category::index);
  CHECK(f.memory.current()[Category::parameter] == 1);
  CHECK(f.memory.current()[Category::gradient] == 100);
  CHECK(f.memory.current()[Category::index] == 5000);
  CHECK(f.memory.current()[Category::activation] == 0);
  CHECK(f.memory.current().total == 5101);
  CHECK(f.memory.reserved_bytes() == 64 + 128 + 8192);
  f.memory.release(b);
  CHECK(f.memory.current().total == 5001);
  CHECK(f.memory.reserved_bytes() == 64 + 128 + 8192);
  f.memory.release_cached();
  CHECK(f.memory.reserved_bytes() == 64 + 8192);
  CHECK(f.memory.peak_reserved_bytes() == 64 + 128 + 8192);
  f.memory.release(a);
  f.memory.release(c);
  CHECK(f.memory.current().total == 0);
}

TEST_CASE("the upstream says what small blocks are rounded to") {
  Fixture f;
  f.log.alignment = 256;
  f.take(1);
  CHECK(f.memory.reserved_bytes() == 256);
  f.take(257);
  CHECK(f.memory.reserved_bytes() == 256 + 512);
  f.take(5000);
  CHECK(f.memory.reserved_bytes() == 256 + 512 + 8192);
}

TEST_CASE("no bytes give null, negative ones are refused, null may be released") {
  Fixture f;
  CHECK(f.take(0) == nullptr);
  f.memory.release(nullptr);
  CHECK_THROWS_AS(f.take(-1), InvalidArgument);
  CHECK(f.log.calls.empty());
}

TEST_CASE("a released block serves the next request that it fits closely") {
  Fixture f;
  void* const large = f.take(kMiB);
  f.memory.release(large);
  CHECK(f.take(kMiB - kMiB / 16) == large);
  f.memory.release(large);
  // Half of it would be wasted.
  void* const half = f.take(kMiB / 2);
  CHECK(half != large);
  // It would not hold this.
  CHECK(f.take(kMiB + 1) != large);
  CHECK(f.log.allocations == 3);
}

TEST_CASE("the best fit wins, and among equal blocks the one released last") {
  Fixture f;
  void* const wide = f.take(72 * 4096);
  void* const close = f.take(66 * 4096);
  void* const narrow = f.take(64 * 4096);
  for (void* pointer : {wide, close, narrow}) f.memory.release(pointer);
  CHECK(f.take(65 * 4096) == close);
  CHECK(f.take(65 * 4096) == wide);

  void* const first = f.take(128);
  void* const second = f.take(128);
  f.memory.release(second);
  f.memory.release(first);
  CHECK(f.take(128) == first);
  CHECK(f.take(128) == second);
}

TEST_CASE("a reused block keeps its size in reserved and when it goes back") {
  Fixture f;
  void* const block = f.take(kMiB);
  f.memory.release(block);
  REQUIRE(f.take(kMiB - 8192) == block);
  CHECK(f.memory.current().total == kMiB - 8192);
  CHECK(f.memory.reserved_bytes() == kMiB);
  f.memory.release(block);
  f.memory.release_cached();
  CHECK(f.log.calls.back() == std::pair{'r', kMiB});
  CHECK(f.memory.reserved_bytes() == 0);
}

TEST_CASE("waste is bounded for every size of request") {
  for (int64_t bytes = 1; bytes < 40 * kMiB; bytes += 1 + bytes / 3) {
    for (int64_t cached = bytes; cached < 3 * bytes + 200'000; cached += 1 + bytes / 5) {
      Fixture f;
      f.memory.release(f.take(cached));
      const int64_t block = f.memory.reserved_bytes();
      f.take(bytes);
      if (f.log.allocations == 1) CHECK(block <= bytes + bytes / 8 + (64 << 10) + 4608);
    }
  }
}

TEST_CASE("peaks: each category's own, the sum's, and the composition at that moment") {
  Fixture f;
  void* parameter = f.take(100, Category::parameter);
  void* activation = f.take(1000, Category::activation);
  f.memory.release(activation);
  void* gradient = f.take(700, Category::gradient);
  void* workspace = f.take(500, Category::workspace);
  f.memory.release(gradient);
  f.memory.release(workspace);
  CHECK(f.memory.peak()[Category::activation] == 1000);
  CHECK(f.memory.peak()[Category::gradient] == 700);
  CHECK(f.memory.peak().total == 1300);
  const MemoryFigures at_peak = f.memory.at_peak();
  CHECK(at_peak.total == 1300);
  CHECK(at_peak[Category::parameter] == 100);
  CHECK(at_peak[Category::activation] == 0);
  CHECK(at_peak[Category::gradient] == 700);
  CHECK(at_peak[Category::workspace] == 500);
  CHECK(std::accumulate(at_peak.bytes.begin(), at_peak.bytes.end(), int64_t{0}) == at_peak.total);

  f.memory.reset_peak();
  CHECK(f.memory.peak().total == 100);
  CHECK(f.memory.peak()[Category::activation] == 0);
  CHECK(f.memory.at_peak()[Category::gradient] == 0);
  f.memory.release(parameter);
}

TEST_CASE("a limit bounds live bytes exactly and leaves the state as it was") {
  Fixture f;
  f.memory.set_limit(1000);
  CHECK(f.memory.limit() == 1000);
  void* first = f.take(600, Category::parameter, "embedding.weight");
  void* second = f.take(400);
  const std::string before = f.memory.report();
  try {
    f.take(1, Category::gradient, "straw");
    FAIL("must not fit");
  } catch (const OutOfMemory& error) {
    CHECK(error.requested_bytes() == 1);
    const std::string message = error.what();
    CHECK(message.find("straw") != std::string::npos);
    CHECK(message.find("gradient") != std::string::npos);
    CHECK(message.find("1000 B") != std::string::npos);
    CHECK(message.find("embedding.weight") != std::string::npos);
  }
  CHECK(f.memory.report() == before);
  f.memory.release(second);
  try {
    f.take(700);
    FAIL("must not fit");
  } catch (const OutOfMemory& error) {
    CHECK(error.requested_bytes() == 700);
    CHECK(error.missing_bytes() == 300);
  }
  CHECK_NOTHROW(f.take(400));
  CHECK_THROWS_AS(f.memory.set_limit(-1), InvalidArgument);
  f.memory.set_limit(0);
  CHECK_NOTHROW(f.take(int64_t{1} << 30));
  f.memory.release(first);
}

TEST_CASE("when the upstream fails, cached blocks go back and the request is tried again") {
  Fixture f;
  f.log.capacity = 10 * kMiB;
  f.memory.release(f.take(6 * kMiB));
  void* const block = f.take(9 * kMiB);
  CHECK(block != nullptr);
  CHECK(f.log.refusals == 1);
  CHECK(f.log.releases == 1);
  CHECK(f.memory.reserved_bytes() == 9 * kMiB);
  CHECK_THROWS_AS(f.take(2 * kMiB), OutOfMemory);
  CHECK(f.memory.current().total == 9 * kMiB);
  f.memory.release(block);
  CHECK_NOTHROW(f.take(10 * kMiB));
}

TEST_CASE("absurd sizes are out of memory, not overflow") {
  Fixture f;
  CHECK_THROWS_AS(f.take(std::numeric_limits<int64_t>::max()), OutOfMemory);
  CHECK_THROWS_AS(f.take(std::numeric_limits<int64_t>::max() - 4096), OutOfMemory);
  CHECK_THROWS_AS(
      allocator().allocate(int64_t{1} << 60, Category::workspace, "more than this machine has"),
      OutOfMemory);
}

TEST_CASE("blocks of sizes that never come back do not pile up") {
  Fixture f;
  const int64_t large = 256 * kMiB;
  for (int64_t i = 0; i < 50; ++i) f.memory.release(f.take(large + i * large / 7));
  const int64_t most = large + 49 * large / 7;
  CHECK(f.log.most_held <= most + most / 4 + 64 * kMiB + 4096);
}

TEST_CASE("everything goes back to the upstream at the end") {
  UpstreamLog log;
  {
    Allocator memory(std::make_unique<FakeUpstream>(log));
    memory.release(memory.allocate(100, Category::data, "a"));
    memory.allocate(5000, Category::data, "still live");
  }
  CHECK(log.held == 0);
  CHECK(log.releases == 2);
}

TEST_CASE("observers are told of the tensor, the scopes and the change, in order") {
  Fixture f;
  void* const before = f.take(1, Category::data, "before");
  void* weight = nullptr;
  const test::MemoryLog log(f.memory);
  CHECK(log.events().empty());
  {
    const MemoryScope outer("forward");
    const MemoryScope inner("embedding");
    CHECK(MemoryScope::current() == "forward/embedding");
    weight = f.take(64, Category::parameter, "weight");
  }
  CHECK(MemoryScope::current().empty());
  {
    const MemoryScope scope("optimizer");
    f.memory.release(weight);
  }
  f.memory.release(before);
  const std::vector<test::LoggedEvent>& events = log.events();
  REQUIRE(events.size() == 3);
  CHECK(events[0].block == 1);
  CHECK(events[0].change == 64);
  CHECK(events[0].category == Category::parameter);
  CHECK(events[0].name == "weight");
  CHECK(events[0].scope == "forward/embedding");
  CHECK(events[0].reserved == 128);
  CHECK(events[1].block == 1);
  CHECK(events[1].change == -64);
  CHECK(events[1].name == "weight");
  CHECK(events[1].scope == "optimizer");
  CHECK(events[2].block == 0);
  CHECK(events[2].change == -1);
}

TEST_CASE("an observer is told first of what is live, and nothing after it was removed") {
  Fixture f;
  void* const first = f.take(10, Category::data, "first");
  f.memory.release(f.take(20));
  {
    const MemoryScope scope("setup");
    f.take(30, Category::parameter, "third");
  }
  struct Names final : MemoryObserver {
    std::vector<std::string> names;
    void observe(const MemoryEvent& event) noexcept override {
      names.push_back(
          fmt::format("{} {} {} {}", event.block, event.name, event.scope, event.change));
    }
  } seen;
  f.memory.add_observer(seen);
  CHECK(seen.names == std::vector<std::string>{"0 first  10", "2 third setup 30"});
  f.memory.remove_observer(seen);
  f.memory.release(first);
  CHECK(seen.names.size() == 2);
}

TEST_CASE("observers are told of what there is no memory for") {
  Fixture f;
  const test::MemoryLog log(f.memory);
  f.memory.set_limit(10);
  const MemoryScope scope("backward");
  CHECK_THROWS_AS(f.take(11, Category::gradient, "large"), OutOfMemory);
  CHECK(log.events().empty());
  REQUIRE(log.failures().size() == 1);
  CHECK(log.failures()[0].change == 11);
  CHECK(log.failures()[0].name == "large");
  CHECK(log.failures()[0].scope == "backward");
}

TEST_CASE("a limit may hold from a later allocation on") {
  Fixture f;
  f.memory.set_limit(1, /*allocations=*/2);
  f.memory.release(f.take(100));
  f.memory.release(f.take(100));
  CHECK_THROWS_AS(f.take(100), OutOfMemory);
  CHECK_THROWS_AS(f.take(2), OutOfMemory);
  f.take(1);
  f.memory.set_limit(0);
  f.take(100);
}

TEST_CASE("scopes belong to their thread") {
  const MemoryScope scope("main");
  std::string seen = "unset";
  std::thread([&] {
    seen = MemoryScope::current();
    const MemoryScope other("other");
  }).join();
  CHECK(seen.empty());
  CHECK(MemoryScope::current() == "main");
}

TEST_CASE("live blocks come largest first, equal ones in order of allocation") {
  Fixture f;
  f.take(10, Category::data, "first");
  f.take(30, Category::parameter, "large");
  f.take(10, Category::index, "second");
  const std::vector<LiveBlock> blocks = f.memory.live_blocks();
  REQUIRE(blocks.size() == 3);
  CHECK(blocks[0].name == "large");
  CHECK(blocks[0].bytes == 30);
  CHECK(blocks[0].category == Category::parameter);
  CHECK(blocks[1].name == "first");
  CHECK(blocks[2].name == "second");
}

TEST_CASE("the report names categories and the largest blocks") {
  Fixture f;
  const MemoryScope scope("setup");
  f.take(3 * kMiB, Category::optimizer_state, "embedding.second_moment");
  const std::string report = f.memory.report();
  CHECK(report.find("optimizer_state") != std::string::npos);
  CHECK(report.find("embedding.second_moment") != std::string::npos);
  CHECK(report.find("3.00 MiB") != std::string::npos);
  CHECK(report.find("setup") != std::string::npos);
}

TEST_CASE("on a device the report tells what it holds beside this allocator's blocks") {
  Fixture f;
  CHECK(f.memory.report().find("device:") == std::string::npos);
  f.take(3 * kMiB);
  f.memory.release(f.take(kMiB));
  f.log.device = {{60 * kMiB, 100 * kMiB}};
  CHECK(
      f.memory.report().find("\ndevice: 60.00 MiB free of 100.00 MiB; CUDA context and libraries: "
                             "36.00 MiB (other programs included)\n") != std::string::npos);
  // Another program may give memory back between two looks.
  f.log.device = {{98 * kMiB, 100 * kMiB}};
  CHECK(f.memory.report().find("CUDA context and libraries: 0 B ") != std::string::npos);
}

TEST_CASE("out of memory on a device tells the device's figures") {
  Fixture f;
  f.log.device = {{kMiB, 4 * kMiB}};
  f.log.capacity = 2 * kMiB;
  f.take(2 * kMiB);
  try {
    f.take(2 * kMiB);
    FAIL("must not fit");
  } catch (const OutOfMemory& error) {
    const std::string message = error.what();
    CHECK(message.find("device: 1.00 MiB free of 4.00 MiB; CUDA context and libraries: 1.00 MiB") !=
          std::string::npos);
  }
}

TEST_CASE("queued work finds its own values in blocks that were released and handed out again") {
  LateStream stream;
  Allocator memory(std::make_unique<LateUpstream>(stream, 4 * kMiB));
  struct Owner {
    uint32_t* block;
    int64_t count;
    uint32_t value;
  };
  std::vector<Owner> owners;
  std::set<uint32_t*> seen;
  int reused = 0, wrong = 0, checked = 0;
  size_t most_queued = 0;
  std::mt19937 random(3);
  const auto release = [&](size_t i) {
    const Owner owner = owners[i];
    // Queued before the release, so it must still find what the owner wrote.
    stream.queue([&, owner] {
      checked += 1;
      for (int64_t k = 0; k < owner.count; ++k) wrong += owner.block[k] != owner.value;
    });
    memory.release(owner.block);
    owners.erase(owners.begin() + static_cast<ptrdiff_t>(i));
  };
  for (uint32_t step = 0; step < 3000; ++step) {
    const int64_t count = 1 + static_cast<int64_t>(random() % 60000);
    if (owners.size() > 12 || (!owners.empty() && random() % 3 == 0)) {
      release(random() % owners.size());
      continue;
    }
    auto* const block = static_cast<uint32_t*>(memory.allocate(4 * count, Category::data, "x"));
    reused += seen.insert(block).second ? 0 : 1;
    owners.push_back({block, count, step});
    stream.queue([block, count, step] { std::fill_n(block, count, step); });
    most_queued = std::max(most_queued, stream.queued());
  }
  while (!owners.empty()) release(0);
  stream.wait();
  CHECK(checked > 1000);
  CHECK(reused > 1000);
  CHECK(most_queued > 20);
  CHECK(wrong == 0);
}

TEST_CASE("the same requests reuse the same blocks") {
  const auto run = [] {
    Fixture f;
    std::vector<void*> live;
    std::vector<std::pair<char, int64_t>> calls;
    uint64_t state = 12345;
    for (int i = 0; i < 3000; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      if (!live.empty() && (state >> 40) % 2 == 0) {
        const size_t which = (state >> 45) % live.size();
        f.memory.release(live[which]);
        live.erase(live.begin() + static_cast<ptrdiff_t>(which));
      } else {
        live.push_back(f.take(static_cast<int64_t>((state >> 33) % 1'000'000) + 1));
      }
    }
    calls = f.log.calls;
    return calls;
  };
  CHECK(run() == run());
}

TEST_CASE("host memory is aligned and writable, small and large") {
  for (const int64_t bytes :
       {int64_t{1}, int64_t{63}, int64_t{4097}, 4 * kMiB - 1, 4 * kMiB, 9 * kMiB + 12345}) {
    void* const block = allocator().allocate(bytes, Category::workspace, "test");
    CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
    std::memset(block, 0x5a, static_cast<size_t>(bytes));
    CHECK(static_cast<char*>(block)[bytes - 1] == 0x5a);
    allocator().release(block);
  }
  allocator().release_cached();
}

TEST_CASE("threads may share an allocator") {
  const int64_t before = allocator().current().total;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int64_t i = 1; i < 500; ++i) {
        auto* const block =
            static_cast<int64_t*>(allocator().allocate(i * 8, Category::workspace, "thread"));
        std::fill_n(block, i, t);
        CHECK(std::accumulate(block, block + i, int64_t{0}) == i * t);
        allocator().release(block);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(allocator().current().total == before);
}

TEST_CASE("kernels' scratch is counted as workspace") {
  const kernels::Exec exec = exec_on(kCpu);
  const int64_t before = allocator().current()[Category::workspace];
  {
    const kernels::ScratchArray<float> array(exec, 10, "scratch");
    CHECK(allocator().current()[Category::workspace] == before + 40);
  }
  CHECK(allocator().current()[Category::workspace] == before);
}

TEST_CASE("kernels' scratch of indices is counted as index") {
  const int64_t before = allocator().current()[Category::index];
  const kernels::ScratchArray<int32_t> array(exec_on(kCpu), 10, "order",
                                             kernels::ScratchKind::indices);
  CHECK(allocator().current()[Category::index] == before + 40);
}

TEST_CASE("an Exec without scratch memory is refused where some is needed") {
  const kernels::Exec exec{DeviceKind::cpu};
  CHECK_NOTHROW(kernels::ScratchArray<float>(exec, 0, "nothing"));
  CHECK_THROWS_WITH_AS(kernels::ScratchArray<float>(exec, 10, "partial"),
                       "[scratch] 40 bytes for \"partial\" from an Exec without scratch memory",
                       InvalidArgument);
}

TEST_CASE("devices by name") {
  CHECK(to_string(kCpu) == "cpu");
  CHECK(parse_device("cpu") == kCpu);
  CHECK_THROWS_AS(parse_device("tpu"), InvalidArgument);
  CHECK_THROWS_AS(parse_device(""), InvalidArgument);
  CHECK(to_string(kCuda) == "cuda");
}

TEST_CASE("bytes for people") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.00 KiB");
  CHECK(format_bytes(-1536) == "-1.50 KiB");
  CHECK(format_bytes(1'289'749) == "1.23 MiB");
  CHECK(format_bytes(int64_t{5} << 30) == "5.00 GiB");
}

TEST_CASE("categories have names") {
  CHECK(to_string(Category::parameter) == "parameter");
  CHECK(to_string(Category::optimizer_state) == "optimizer_state");
  CHECK(to_string(Category::index) == "index");
}

}  // namespace
}  // namespace sketchgrad
