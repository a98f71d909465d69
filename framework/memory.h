#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/framework/device.h"
#include "sketchgrad/kernels/device.h"

// Device memory. It is taken through one caching allocator a device, and every byte has a category
// and a name. Figures of categories are the bytes asked for, exactly; what rounding and caching add
// is told apart (`reserved`).
namespace sketchgrad {

enum class Category : uint8_t {
  parameter,
  gradient,
  optimizer_state,
  activation,
  workspace,
  data,
  index,
};
inline constexpr std::array kCategories = {
    Category::parameter, Category::gradient, Category::optimizer_state, Category::activation,
    Category::workspace, Category::data,     Category::index,
};
inline constexpr int kCategoryCount = static_cast<int>(kCategories.size());
// "parameter", "gradient", ...
std::string_view to_string(Category);

struct MemoryFigures {
  std::array<int64_t, kCategoryCount> bytes{};  // by category
  int64_t total = 0;
  int64_t operator[](Category category) const { return bytes[static_cast<size_t>(category)]; }
  int64_t& operator[](Category category) { return bytes[static_cast<size_t>(category)]; }
  void add(Category category, int64_t change) {
    (*this)[category] += change;
    total += change;
  }
};

// One allocation or release. Texts live as long as the call that tells of them.
struct MemoryEvent {
  int64_t block = 0;   // number of the allocation, from 0; its release has the same
  int64_t change = 0;  // bytes asked for, negative for a release
  Category category{};
  std::string_view name;
  std::string_view scope;  // the MemoryScopes open at that time, joined by '/'
  int64_t reserved = 0;    // Allocator::reserved_bytes afterwards
};

// Is told of every allocation and release of an Allocator, in their order and while it is locked:
// it must not call it.
class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;
  virtual void observe(const MemoryEvent&) noexcept = 0;
  // Of an allocation that there was no memory for; it has no number.
  virtual void fail(const MemoryEvent&) noexcept {}
};

// A live allocation, as reports list it.
struct LiveBlock {
  int64_t bytes = 0;
  Category category{};
  std::string name;
  std::string scope;
};

// Names what is being computed (a layer, an op, a phase) for the events of this thread while it
// lives, and in builds with CUDA for the vendor's profilers (kernels/ranges.h).
class MemoryScope {
 public:
  explicit MemoryScope(const std::string& name);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

  // The scopes open on this thread, outermost first, joined by '/'; until one is closed or opened.
  static std::string_view current();

 private:
  std::string path_;
  const MemoryScope* parent_;
};

// Where the allocator gets memory from. The production ones are aligned host memory and cudaMalloc;
// tests put a recording or a failing one in their place.
class UpstreamMemory {
 public:
  virtual ~UpstreamMemory() = default;
  // Returns null when there is no memory left.
  virtual void* allocate(size_t bytes) = 0;
  // Queued work may still use the block; CUDA's waits until it is done (kernels::cuda::release).
  virtual void release(void* pointer, size_t bytes) noexcept = 0;
  // Of every block, in bytes; sizes of blocks are multiples of it, too.
  virtual int64_t alignment() const { return 64; }
  // Of a device with memory of its own, for reports.
  virtual std::optional<kernels::cuda::DeviceMemory> device_memory() const { return std::nullopt; }
};

// Caching allocator. Released blocks are kept and reused for requests that they fit closely;
// they go back to the upstream when a request would otherwise fail, when too many pile up, or by
// release_cached(). Thread-safe. Deterministic: the same requests in the same order reuse the same
// blocks.
//
// On CUDA a block may be released, and handed out again, while queued work still uses it: all work
// on it is queued on one stream (kernels::cuda::stream), so that what its next owner does comes
// after. Blocks that go back to the upstream make the host wait for the device.
class Allocator {
 public:
  explicit Allocator(std::unique_ptr<UpstreamMemory> upstream);
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // Uninitialised memory, aligned to 64 bytes (256 on CUDA). 0 bytes gives null. Throws
  // OutOfMemory, with the composition of memory at that moment, when the upstream has none or the
  // limit would be passed.
  void* allocate(int64_t bytes, Category category, std::string_view name);
  void release(void* pointer) noexcept;

  MemoryFigures current() const;
  // Bytes by category at their own peaks; `total` is the peak of the sum (not the sum of the
  // peaks).
  MemoryFigures peak() const;
  // The composition at the moment of the total's peak: its categories add up to its total.
  MemoryFigures at_peak() const;
  void reset_peak();
  // What the upstream has handed out: live blocks with their rounding, and cached ones.
  int64_t reserved_bytes() const;
  int64_t peak_reserved_bytes() const;
  void release_cached();
  // The same, and what is cached from now on is bounded by what is in use from now on.
  void restart_cache();

  // Upper bound for live bytes; 0 for none. It holds from the allocation on that comes after
  // `allocations` more.
  void set_limit(int64_t bytes, int64_t allocations = 0);
  int64_t limit() const;

  // From now on, until it is removed, which must come before it is destroyed. It is first told of
  // what is live as if it were allocated now.
  void add_observer(MemoryObserver& observer);
  void remove_observer(MemoryObserver& observer) noexcept;
  // Of a device with memory of its own: what it has, and has free.
  std::optional<kernels::cuda::DeviceMemory> device_memory() const;
  // Largest first.
  std::vector<LiveBlock> live_blocks() const;
  // Human-readable composition: categories, then the largest blocks. On CUDA also what the device
  // has free, and what it lacks without being reserved here: the CUDA context, libraries, rounding
  // by the driver, and other programs.
  std::string report() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The device's allocator, made on first use and never destroyed before the program's end. Throws
// NotCompiled or CudaError for a GPU that cannot be used.
Allocator& allocator(Device device = kCpu);

// "1.23 MiB"
std::string format_bytes(int64_t bytes);

}  // namespace sketchgrad
