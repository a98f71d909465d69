#include "sketchgrad/framework/memory.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <new>
#include <unordered_map>
#include <utility>

#include "sketchgrad/framework/check.h"
#include "sketchgrad/framework/upstream_memory.h"
#include "sketchgrad/kernels/ranges.h"

namespace sketchgrad {
namespace {

constexpr int64_t kLargeGrain = 4096;
constexpr int64_t kSlack = int64_t{64} << 10;
constexpr int64_t kCacheSlack = int64_t{64} << 20;
constexpr size_t kReportedBlocks = 10;

thread_local const MemoryScope* innermost_scope = nullptr;

int64_t round_up(int64_t value, int64_t grain) { return (value + grain - 1) / grain * grain; }

int64_t block_size(int64_t bytes, int64_t alignment) {
  return round_up(bytes, bytes < kLargeGrain ? alignment : kLargeGrain);
}

// The largest cached block that a request of `size` may take: up to twice the size for small ones,
// size + 1/8 for large ones.
int64_t largest_fit(int64_t size) { return size + std::max(size / 8, std::min(size, kSlack)); }

std::string device_line(const kernels::cuda::DeviceMemory& device, int64_t reserved) {
  const int64_t others = std::max<int64_t>(device.total - device.free - reserved, 0);
  return fmt::format(
      "device: {} free of {}; CUDA context and libraries: {} (other programs included)\n",
      format_bytes(device.free), format_bytes(device.total), format_bytes(others));
}

}  // namespace

std::string_view to_string(Category category) {
  constexpr std::array<std::string_view, kCategoryCount> kNames = {
      "parameter", "gradient", "optimizer_state", "activation", "workspace", "data", "index"};
  return kNames[static_cast<size_t>(category)];
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes > -1024 && bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; std::abs(value) >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.2f} {}", value, kUnits[unit]);
}

MemoryScope::MemoryScope(const std::string& name)
    : path_(innermost_scope != nullptr ? innermost_scope->path_ + "/" + name : name),
      parent_(innermost_scope) {
  kernels::cuda::push_range(name.c_str());
  innermost_scope = this;
}

MemoryScope::~MemoryScope() {
  innermost_scope = parent_;
  kernels::cuda::pop_range();
}

std::string_view MemoryScope::current() {
  return innermost_scope != nullptr ? std::string_view(innermost_scope->path_) : std::string_view();
}

// Not locked: the Allocator's functions hold the mutex around every use.
struct Allocator::State {
  struct Block {
    int64_t size = 0;    // as taken from the upstream
    int64_t number = 0;  // of the allocation
    LiveBlock asked;
  };
  // Ordered by size, then the latest released first: its pages are the likeliest to be in cache,
  // and unlike an address the order is the same in every run.
  using CacheKey = std::pair<int64_t, int64_t>;

  explicit State(std::unique_ptr<UpstreamMemory> memory) : upstream(std::move(memory)) {}

  void* take(int64_t bytes, Category category, std::string_view name);
  void* take_block(int64_t size);
  void* take_cached(int64_t& size);
  void trim_cache(int64_t size);
  void release_upstream(std::map<CacheKey, void*>::iterator entry);
  void release_cached();
  void cache(void* pointer, int64_t size);
  void count(int64_t change, Category category);
  void tell(const Block& block, int64_t change) const;
  std::vector<LiveBlock> live_blocks() const;
  std::string report() const;
  [[noreturn]] void fail(int64_t bytes, Category category, std::string_view name, int64_t missing,
                         const std::string& reason) const;

  mutable std::mutex mutex;
  std::unique_ptr<UpstreamMemory> upstream;
  std::unordered_map<void*, Block> live;
  std::map<CacheKey, void*> cached;
  MemoryFigures current, peak, at_peak;
  int64_t releases = 0;
  int64_t reserved = 0, peak_reserved = 0;
  int64_t in_use = 0, most_in_use = 0;  // sizes of live blocks; not touched by reset_peak
  int64_t allocations = 0;
  int64_t limit = 0;
  int64_t limit_from = 0;  // number of the first allocation that it holds for
  std::vector<MemoryObserver*> observers;
};

void Allocator::State::fail(int64_t bytes, Category category, std::string_view name,
                            int64_t missing, const std::string& reason) const {
  for (MemoryObserver* const observer : observers) {
    observer->fail({-1, bytes, category, name, MemoryScope::current(), reserved});
  }
  throw OutOfMemory(
      fmt::format("[memory] {} for {} \"{}\" (scope \"{}\"): {}\n{}", format_bytes(bytes),
                  to_string(category), name, MemoryScope::current(), reason, report()),
      bytes, missing);
}

void* Allocator::State::take(int64_t bytes, Category category, std::string_view name) {
  // Leaves room for rounding and for the alignment of mappings.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 4;
  if (bytes > kMost) fail(bytes, category, name, bytes, "more than any machine addresses");
  if (limit > 0 && allocations >= limit_from && bytes > limit - current.total) {
    fail(bytes, category, name, bytes - std::max<int64_t>(0, limit - current.total),
         fmt::format("the limit is {}", format_bytes(limit)));
  }
  Block block;
  block.asked = {bytes, category, std::string(name), std::string(MemoryScope::current())};
  block.number = allocations;
  block.size = block_size(bytes, upstream->alignment());
  void* pointer = take_cached(block.size);
  if (pointer == nullptr) pointer = take_block(block.size);
  if (pointer == nullptr) fail(bytes, category, name, bytes, "the device has no memory left");
  const int64_t size = block.size;
  decltype(live)::iterator entry;
  try {
    entry = live.emplace(pointer, std::move(block)).first;
  } catch (...) {
    cache(pointer, size);
    throw;
  }
  ++allocations;
  in_use += size;
  most_in_use = std::max(most_in_use, in_use);
  count(bytes, category);
  tell(entry->second, bytes);
  return pointer;
}

// On success `size` becomes that of the block found.
void* Allocator::State::take_cached(int64_t& size) {
  const auto entry = cached.lower_bound({size, std::numeric_limits<int64_t>::min()});
  if (entry == cached.end() || entry->first.first > largest_fit(size)) return nullptr;
  void* const pointer = entry->second;
  size = entry->first.first;
  cached.erase(entry);
  return pointer;
}

void* Allocator::State::take_block(int64_t size) {
  trim_cache(size);
  void* pointer = upstream->allocate(static_cast<size_t>(size));
  if (pointer == nullptr && !cached.empty()) {
    release_cached();
    pointer = upstream->allocate(static_cast<size_t>(size));
  }
  if (pointer == nullptr) return nullptr;
  reserved += size;
  peak_reserved = std::max(peak_reserved, reserved);
  return pointer;
}

// Where sizes change from step to step, blocks that no longer fit anything would pile up: what is
// reserved stays within 5/4 of the most that was ever in use, and the longest unused block goes
// first.
void Allocator::State::trim_cache(int64_t size) {
  const int64_t most = std::max(most_in_use, in_use + size);
  const int64_t allowed = most + most / 4 + kCacheSlack;
  while (reserved + size > allowed && !cached.empty()) {
    release_upstream(std::max_element(
        cached.begin(), cached.end(),
        [](const auto& a, const auto& b) { return a.first.second < b.first.second; }));
  }
}

void Allocator::State::release_upstream(std::map<CacheKey, void*>::iterator entry) {
  upstream->release(entry->second, static_cast<size_t>(entry->first.first));
  reserved -= entry->first.first;
  cached.erase(entry);
}

void Allocator::State::release_cached() {
  while (!cached.empty()) release_upstream(cached.begin());
}

void Allocator::State::cache(void* pointer, int64_t size) {
  try {
    cached.emplace(CacheKey{size, -releases++}, pointer);
  } catch (const std::bad_alloc&) {
    upstream->release(pointer, static_cast<size_t>(size));
    reserved -= size;
  }
}

void Allocator::State::count(int64_t change, Category category) {
  current.add(category, change);
  peak[category] = std::max(peak[category], current[category]);
  if (current.total > peak.total) {
    peak.total = current.total;
    at_peak = current;
  }
}

void Allocator::State::tell(const Block& block, int64_t change) const {
  for (MemoryObserver* const observer : observers) {
    const bool taken = change > 0;
    observer->observe({block.number, change, block.asked.category, block.asked.name,
                       taken ? std::string_view(block.asked.scope) : MemoryScope::current(),
                       reserved});
  }
}

std::vector<LiveBlock> Allocator::State::live_blocks() const {
  std::vector<const Block*> blocks;
  blocks.reserve(live.size());
  for (const auto& [pointer, block] : live) blocks.push_back(&block);
  std::sort(blocks.begin(), blocks.end(), [](const Block* a, const Block* b) {
    return a->asked.bytes != b->asked.bytes ? a->asked.bytes > b->asked.bytes
                                            : a->number < b->number;
  });
  std::vector<LiveBlock> result;
  result.reserve(blocks.size());
  for (const Block* block : blocks) result.push_back(block->asked);
  return result;
}

std::string Allocator::State::report() const {
  std::string text =
      fmt::format("in use {}, peak {}, reserved {} (peak {})\n", format_bytes(current.total),
                  format_bytes(peak.total), format_bytes(reserved), format_bytes(peak_reserved));
  if (const auto device = upstream->device_memory()) text += device_line(*device, reserved);
  text += fmt::format("  {:<16}{:>12}{:>12}{:>12}\n", "", "now", "own peak", "at peak");
  for (const Category category : kCategories) {
    text += fmt::format("  {:<16}{:>12}{:>12}{:>12}\n", to_string(category),
                        format_bytes(current[category]), format_bytes(peak[category]),
                        format_bytes(at_peak[category]));
  }
  const std::vector<LiveBlock> blocks = live_blocks();
  text += fmt::format("{} live blocks, largest first\n", blocks.size());
  for (size_t i = 0; i < std::min(kReportedBlocks, blocks.size()); ++i) {
    text += fmt::format("  {:>12}  {:<16}{}", format_bytes(blocks[i].bytes),
                        to_string(blocks[i].category), blocks[i].name);
    if (!blocks[i].scope.empty()) text += fmt::format("  (in {})", blocks[i].scope);
    text += '\n';
  }
  return text;
}

Allocator::Allocator(std::unique_ptr<UpstreamMemory> upstream)
    : state_(std::make_unique<State>(std::move(upstream))) {}

Allocator::~Allocator() {
  state_->release_cached();
  for (const auto& [pointer, block] : state_->live) {
    state_->upstream->release(pointer, static_cast<size_t>(block.size));
  }
}

void* Allocator::allocate(int64_t bytes, Category category, std::string_view name) {
  check(bytes >= 0, "[memory] \"{}\" of {} bytes", name, bytes);
  if (bytes == 0) return nullptr;
  const std::lock_guard lock(state_->mutex);
  return state_->take(bytes, category, name);
}

void Allocator::release(void* pointer) noexcept {
  if (pointer == nullptr) return;
  const std::lock_guard lock(state_->mutex);
  auto node = state_->live.extract(pointer);
  assert(!node.empty() && "released twice, or not this allocator's");
  if (node.empty()) return;
  const State::Block& block = node.mapped();
  state_->in_use -= block.size;
  state_->count(-block.asked.bytes, block.asked.category);
  state_->cache(pointer, block.size);
  state_->tell(block, -block.asked.bytes);
}

MemoryFigures Allocator::current() const {
  const std::lock_guard lock(state_->mutex);
  return state_->current;
}

MemoryFigures Allocator::peak() const {
  const std::lock_guard lock(state_->mutex);
  return state_->peak;
}

MemoryFigures Allocator::at_peak() const {
  const std::lock_guard lock(state_->mutex);
  return state_->at_peak;
}

void Allocator::reset_peak() {
  const std::lock_guard lock(state_->mutex);
  state_->peak = state_->at_peak = state_->current;
  state_->peak_reserved = state_->reserved;
}

int64_t Allocator::reserved_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->reserved;
}

int64_t Allocator::peak_reserved_bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->peak_reserved;
}

void Allocator::release_cached() {
  const std::lock_guard lock(state_->mutex);
  state_->release_cached();
}

void Allocator::restart_cache() {
  const std::lock_guard lock(state_->mutex);
  state_->release_cached();
  state_->most_in_use = state_->in_use;
}

void Allocator::set_limit(int64_t bytes, int64_t allocations) {
  check(bytes >= 0, "[memory] a limit of {} bytes; 0 is none", bytes);
  const std::lock_guard lock(state_->mutex);
  state_->limit = bytes;
  state_->limit_from = state_->allocations + allocations;
}

int64_t Allocator::limit() const {
  const std::lock_guard lock(state_->mutex);
  return state_->limit;
}

void Allocator::add_observer(MemoryObserver& observer) {
  const std::lock_guard lock(state_->mutex);
  std::vector<const State::Block*> blocks;
  for (const auto& [pointer, block] : state_->live) blocks.push_back(&block);
  std::sort(blocks.begin(), blocks.end(),
            [](const auto* a, const auto* b) { return a->number < b->number; });
  for (const State::Block* block : blocks) {
    observer.observe({block->number, block->asked.bytes, block->asked.category, block->asked.name,
                      block->asked.scope, state_->reserved});
  }
  state_->observers.push_back(&observer);
}

void Allocator::remove_observer(MemoryObserver& observer) noexcept {
  const std::lock_guard lock(state_->mutex);
  std::erase(state_->observers, &observer);
}

std::vector<LiveBlock> Allocator::live_blocks() const {
  const std::lock_guard lock(state_->mutex);
  return state_->live_blocks();
}

std::optional<kernels::cuda::DeviceMemory> Allocator::device_memory() const {
  const std::lock_guard lock(state_->mutex);
  return state_->upstream->device_memory();
}

std::string Allocator::report() const {
  const std::lock_guard lock(state_->mutex);
  return state_->report();
}

Allocator& allocator(Device device) {
  if (device == kCuda) {
    static Allocator& cuda = *new Allocator(make_cuda_memory());
    return cuda;
  }
  static Allocator& cpu = *new Allocator(make_host_memory());
  return cpu;
}

}  // namespace sketchgrad
