#pragma once

#include <string>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/framework/rng.h"
#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

enum class LshHash : uint8_t { simhash, dwta };  // see kernels/lsh.h
// "simhash" or "dwta"; throws InvalidArgument for any other word.
LshHash parse_lsh_hash(const std::string& word);

struct LshOptions {
  LshHash hash = LshHash::simhash;
  int bits = 15;  // of a code: a table has 2^bits buckets
  int tables = 16;
  // Rows that a bucket holds at most. 0: four times as many as there are on average, at least 8.
  int64_t bucket_limit = 0;
  int bin_bits = 3;  // of one winner-take-all hash; divides bits
};

// The rows of a table by their codes, for finding those that are likely near to a query. Codes are
// computed where the table is, the index itself is on the CPU: the device is waited for at each
// call. Of a bucket that is full, each row that belongs there is held with the same probability.
// The same calls give the same index, whatever the number of threads.
class LshIndex {
 public:
  // Throws InvalidArgument for options that do not fit.
  LshIndex(const std::string& name, int64_t rows, int64_t dim, const LshOptions&, Device);

  // Draws new hash functions and takes in all rows of `table`.
  void rebuild(const Tensor& table, kernels::PhiloxKey key);
  // Takes in the rows `ids` (int32, on the CPU, distinct) as they are now.
  void update(const Tensor& table, const Tensor& ids);
  bool built() const { return built_; }

  // Codes of x [.., dim]: int32 [n, tables], on the CPU.
  Tensor codes(const Tensor& x) const;
  // The rows that the buckets of these codes hold, increasing, and for each how many of the buckets
  // of all queries hold it.
  // Codes of the rows `ids` (int32, on the CPU) as they are in the index: int32 [tables, ids].
  Tensor row_codes(const Tensor& ids) const;
  struct Hits {
    std::vector<int32_t> rows;
    std::vector<int32_t> counts;
  };
  Hits find(const Tensor& query_codes) const;

  const LshOptions& options() const { return options_; }

  // Puts what follows from the codes in order, and saves hash functions and codes under `prefix`.
  // A loaded index goes on as one that was saved.
  void save(StateDict& state, const std::string& prefix);
  void load(const StateDict& state, const std::string& prefix);

 private:
  int64_t buckets() const { return int64_t{1} << options_.bits; }
  void draw_functions();
  // Codes of some rows, at most kRowsAtOnce, into int32 [rows, tables] on the CPU.
  void hash_rows(const Tensor& rows, const Tensor& out) const;
  void fill_from_codes();
  void insert(int64_t table, int32_t row, int32_t code);
  void remove(int64_t table, int32_t row, int32_t code);

  std::string name_;
  int64_t rows_;
  int64_t dim_;
  LshOptions options_;
  Device device_;
  kernels::PhiloxKey key_{};
  bool built_ = false;
  Tensor functions_;  // directions float32 [tables * bits, dim], or columns int32; on the device
  Tensor codes_;      // int32 [rows, tables]
  Tensor members_;    // int32 [tables, buckets, limit]
  Tensor sizes_;      // int32 [tables, buckets]: members held
  Tensor seen_;       // int32 [tables, buckets]: rows that came, held or not
};

}  // namespace sketchgrad
