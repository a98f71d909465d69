#include "sketchgrad/optim/row_reservoir.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/philox.h"

namespace sketchgrad {

namespace {

constexpr int64_t kHashesAtOnce = 256;

uint64_t row_hash(uint64_t seed, int64_t row) {
  const kernels::Philox4 bits = kernels::philox(seed, 0, static_cast<uint64_t>(row));
  return uint64_t{bits.v[0]} << 32 | bits.v[1];
}

}  // namespace

RowReservoir::RowReservoir(const std::string& name, int64_t capacity, int64_t table_rows,
                           uint64_t seed)
    : name_(name), table_rows_(table_rows), seed_(seed) {
  check(capacity >= 1, "[reservoir] {} of {} rows, it must have at least 1", name, capacity);
  const auto array = [&](const char* part, DType type) {
    return Tensor::empty({std::min(capacity, table_rows)}, {Category::index, name + part}, type);
  };
  hashes_ = array(".hashes", DType::int64);
  slots_ = array(".slots", DType::int32);
  rows_ = array(".rows", DType::int32);
  entries_ = array(".entries", DType::int32);
  admitted_ = array(".admitted", DType::uint8);
  std::fill_n(rows_.data<int32_t>(), rows_.numel(), -1);
}

void RowReservoir::offer(const int32_t* ids, int64_t count) {
  std::fill_n(entries_.data<int32_t>(), size_, -1);
  std::fill_n(admitted_.data<uint8_t>(), size_, uint8_t{0});
  if (ids == nullptr && all_offered_) {
    std::copy_n(rows_.data<int32_t>(), size_, entries_.data<int32_t>());
    return;
  }
  const auto largest_hash = [&] {
    return size_ < capacity() ? std::numeric_limits<uint64_t>::max()
                              : static_cast<uint64_t>(hashes_.data<int64_t>()[size_ - 1]);
  };
  const uint64_t seed = seed_;
  uint64_t largest = largest_hash();
  uint64_t hashes[kHashesAtOnce];
  for (int64_t begin = 0; begin < count; begin += kHashesAtOnce) {
    const int64_t many = std::min(kHashesAtOnce, count - begin);
#pragma omp simd
    for (int64_t i = 0; i < many; ++i) {
      hashes[i] = row_hash(seed, ids != nullptr ? ids[begin + i] : begin + i);
    }
    for (int64_t i = 0; i < many; ++i) {
      if (hashes[i] > largest) continue;
      const int64_t row = ids != nullptr ? ids[begin + i] : begin + i;
      if (row < 0) continue;
      place(hashes[i], static_cast<int32_t>(row), static_cast<int32_t>(begin + i));
      largest = largest_hash();
    }
  }
  all_offered_ = all_offered_ || ids == nullptr;
}

// A row whose hash is not above the largest one.
void RowReservoir::place(uint64_t hash, int32_t row, int32_t entry) {
  auto* const hashes = reinterpret_cast<uint64_t*>(hashes_.data<int64_t>());
  int32_t* const slots = slots_.data<int32_t>();
  const int64_t at = std::lower_bound(hashes, hashes + size_, hash) - hashes;
  if (at < size_ && hashes[at] == hash) {
    // Of two rows with one hash the first stays.
    if (this->row(slots[at]) == row) entries_.data<int32_t>()[slots[at]] = entry;
    return;
  }
  const int32_t slot =
      size_ < capacity() ? static_cast<int32_t>(size_) : slots[--size_];  // the largest goes
  std::copy_backward(hashes + at, hashes + size_, hashes + size_ + 1);
  std::copy_backward(slots + at, slots + size_, slots + size_ + 1);
  ++size_;
  hashes[at] = hash;
  slots[at] = slot;
  rows_.data<int32_t>()[slot] = row;
  entries_.data<int32_t>()[slot] = entry;
  admitted_.data<uint8_t>()[slot] = 1;
}

void RowReservoir::save(StateDict& state, const std::string& prefix) const {
  state.set_unsigned(prefix + "seed", seed_);
  state.set_integer(prefix + "size", size_);
  state.set_integer(prefix + "capacity", capacity());
  state.set_integer(prefix + "all_offered", all_offered_ ? 1 : 0);
  state.tensors[prefix + "rows"] = rows_;
}

void RowReservoir::load(const StateDict& state, const std::string& prefix) {
  const int64_t saved = state.integer(prefix + "capacity");
  check(saved == capacity(), "[reservoir] {}: {} holds {} rows, here there are {}", name_,
        state.source, saved, capacity());
  const int64_t size = state.integer(prefix + "size");
  const auto refuse = [&](const std::string& what) {
    throw DataError(state.source, 0, fmt::format("the reservoir of {}: {}", name_, what));
  };
  if (size < 0 || size > saved) refuse(fmt::format("{} of {} rows", size, saved));
  state.copy_to(prefix + "rows", rows_);
  seed_ = state.unsigned_integer(prefix + "seed");
  all_offered_ = state.integer(prefix + "all_offered") != 0;
  size_ = 0;
  for (int64_t slot = 0; slot < size; ++slot) {
    const int32_t id = row(slot);
    if (id < 0 || id >= table_rows_) refuse(fmt::format("row {} of {}", id, table_rows_));
    place(row_hash(seed_, id), id, -1);  // while it is not full: to the next slot
    if (size_ != slot + 1) refuse(fmt::format("row {} stands twice", id));
  }
}

}  // namespace sketchgrad
