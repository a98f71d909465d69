#pragma once

#include <cstdint>
#include <string>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// A uniform sample of the distinct rows of a table that were ever active: those of the least hashes
// (bottom-k sampling: Cohen & Kaplan 2007, "Summarizing Data using Bottom-k Sketches"; k is the
// capacity here). The largest hash of a full sample only falls, so a row that was left out never
// comes in later, and one that is in came in when it was active for the first time. Each row has a
// slot, the same as long as it is in.
//
// Lives on the CPU: kBytesOfSlot bytes a slot, of category index.
class RowReservoir {
 public:
  static constexpr int64_t kBytesOfSlot = 21;

  // Of a table of `table_rows` rows, of which it takes min(capacity, table_rows).
  RowReservoir(const std::string& name, int64_t capacity, int64_t table_rows, uint64_t seed);

  // Offers the active rows of a step: ids [count] on the CPU, distinct, of which those below 0 are
  // no rows; null: all rows of the table. One hash and one comparison a row, and nothing is
  // allocated.
  void offer(const int32_t* ids, int64_t count);

  int64_t capacity() const { return rows_.numel(); }
  int64_t size() const { return size_; }  // slots in use, the first ones
  int32_t row(int64_t slot) const { return rows_.data<int32_t>()[slot]; }
  // Of the last offer: where the row stood in it (-1: it was not active), and whether it came in.
  int32_t entry(int64_t slot) const { return entries_.data<int32_t>()[slot]; }
  bool admitted(int64_t slot) const { return admitted_.data<uint8_t>()[slot] != 0; }
  int64_t bytes() const { return capacity() * kBytesOfSlot; }

  // Under names that begin with the prefix. load() throws DataError for what cannot be one, and
  // InvalidArgument for one of another capacity.
  void save(StateDict& state, const std::string& prefix) const;
  void load(const StateDict& state, const std::string& prefix);

 private:
  void place(uint64_t hash, int32_t row, int32_t entry);

  std::string name_;
  int64_t table_rows_;
  uint64_t seed_;
  int64_t size_ = 0;
  bool all_offered_ = false;  // so nothing comes in any more
  Tensor hashes_;             // int64 [capacity], rising as unsigned numbers
  Tensor slots_;              // int32 [capacity], in the order of the hashes
  Tensor rows_;               // int32 [capacity], by slot, as are those that follow
  Tensor entries_;            // int32 [capacity]
  Tensor admitted_;           // uint8 [capacity]
};

}  // namespace sketchgrad
