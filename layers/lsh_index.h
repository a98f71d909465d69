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
// call. What a bucket holds is a function of the codes and the key of the last rebuild alone: where
// more rows belong there than it can hold, those of the smallest random numbers, so that each is
// held with the same probability.
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
  // Codes of the rows `ids` (int32, on the CPU) as they are in the index: int32 [tables, ids].
  Tensor row_codes(const Tensor& ids) const;
  // The rows that the buckets of these codes hold, increasing, and for each how many of the buckets
  // of all queries hold it.
  struct Hits {
    std::vector<int32_t> rows;
    std::vector<int32_t> counts;
  };
  Hits find(const Tensor& query_codes) const;

  const LshOptions& options() const { return options_; }

  // Hash functions and codes, under `prefix`. Throws DataError for codes that are none.
  void save(StateDict& state, const std::string& prefix) const;
  void load(const StateDict& state, const std::string& prefix);

 private:
  int64_t buckets() const { return int64_t{1} << options_.bits; }
  template <class F>
  void for_each_table(const F& f) const;  // f(table), in parallel
  void draw_functions();
  // Codes of some rows, at most kRowsAtOnce, into int32 [rows, tables] on the CPU.
  void hash_rows(const Tensor& rows, const Tensor& out) const;
  void fill(int64_t table);
  uint64_t priority(int64_t table, int32_t row) const;
  void insert(int64_t table, int32_t row, int32_t code);
  // False where the bucket now lacks a row that belongs there.
  bool remove(int64_t table, int32_t row, int32_t code);

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
  Tensor belong_;     // int32 [tables, buckets]: rows with that code, held or not
};

}  // namespace sketchgrad
