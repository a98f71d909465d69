#include "sketchgrad/layers/lsh_index.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/rows.h"

namespace sketchgrad {

namespace {

constexpr int64_t kRowsAtOnce = 16384;
constexpr int64_t kSmallestLimit = 8;

Tensor index_array(const std::string& name, const Shape& shape) {
  return Tensor::zeros(shape, {Category::index, name}, DType::int32);
}

void check_options(const std::string& name, int64_t rows, int64_t dim, const LshOptions& options) {
  check(rows > 0 && dim > 0, "[{}] an index of {} rows of {} columns", name, rows, dim);
  check(options.tables >= 1, "[{}] {} hash tables, at least 1 is needed", name, options.tables);
  check(options.bits >= 1 && options.bits <= kernels::kMaxCodeBits,
        "[{}] codes of {} bits, they have 1 to {}", name, options.bits, kernels::kMaxCodeBits);
  check(options.bucket_limit >= 0, "[{}] buckets of {} rows", name, options.bucket_limit);
  if (options.hash != LshHash::dwta) return;
  check(options.bin_bits >= 1 && options.bits % options.bin_bits == 0,
        "[{}] codes of {} bits cannot be made of hashes of {}", name, options.bits,
        options.bin_bits);
  check(int64_t{1} << options.bin_bits <= dim, "[{}] bins of {} columns, but there are {}", name,
        1 << options.bin_bits, dim);
}

// Standard normal (Box and Muller 1958).
float normal(kernels::PhiloxKey key, int64_t index) {
  const kernels::Philox4 words =
      kernels::philox(key.seed, key.offset, static_cast<uint64_t>(index));
  const double radius = (static_cast<double>(words.v[0]) + 0.5) * 0x1p-32;
  const double angle = static_cast<double>(words.v[1]) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(radius)) *
                            std::cos(2.0 * std::numbers::pi * angle));
}

// [0, limit) by one word of its own.
int32_t below(kernels::PhiloxKey key, uint64_t index, int64_t limit) {
  const uint64_t word = kernels::philox_bits(key, index);
  return static_cast<int32_t>((word * static_cast<uint64_t>(limit)) >> 32);
}

}  // namespace

LshHash parse_lsh_hash(const std::string& word) {
  if (word == "simhash") return LshHash::simhash;
  if (word == "dwta") return LshHash::dwta;
  throw InvalidArgument(fmt::format("[lsh] \"{}\" is neither simhash nor dwta", word));
}

LshIndex::LshIndex(const std::string& name, int64_t rows, int64_t dim, const LshOptions& options,
                   Device device)
    : name_(name), rows_(rows), dim_(dim), options_(options), device_(device) {
  check_options(name, rows, dim, options);
  if (options_.bucket_limit == 0) {
    options_.bucket_limit = std::max(kSmallestLimit, 4 * rows / buckets());
  }
  codes_ = index_array(name + ".codes", {rows, options.tables});
  members_ = index_array(name + ".members", {options.tables, buckets(), options_.bucket_limit});
  sizes_ = index_array(name + ".sizes", {options.tables, buckets()});
  belong_ = index_array(name + ".belong", {options.tables, buckets()});
}

template <class F>
void LshIndex::for_each_table(const F& f) const {
  kernels::for_each_range(kernels::TbbPolicy{}, options_.tables, 1,
                          [&](int64_t begin, int64_t end) {
                            for (int64_t l = begin; l < end; ++l) f(l);
                          });
}

void LshIndex::draw_functions() {
  if (options_.hash == LshHash::simhash) {
    const Tensor directions = Tensor::empty({int64_t{options_.tables} * options_.bits, dim_},
                                            {Category::index, name_ + ".directions"});
    for (int64_t i = 0; i < directions.numel(); ++i) directions.data<float>()[i] = normal(key_, i);
    functions_ = directions.to(device_, {Category::index, name_ + ".directions"});
    return;
  }
  // Bins are pieces of permutations of the columns, as many as are needed.
  const int64_t bin = int64_t{1} << options_.bin_bits;
  const int64_t bins = int64_t{options_.tables} * (options_.bits / options_.bin_bits);
  const Tensor columns = index_array(name_ + ".columns", {bins, bin});
  std::vector<int32_t> permutation(static_cast<size_t>(dim_));
  std::iota(permutation.begin(), permutation.end(), 0);
  int64_t left = 0;
  uint64_t drawn = 0;
  for (int64_t b = 0; b < bins; ++b) {
    if (left < bin) {
      for (size_t i = permutation.size(); i > 1; --i) {
        const auto j = static_cast<size_t>(below(key_, drawn++, static_cast<int64_t>(i)));
        std::swap(permutation[i - 1], permutation[j]);
      }
      left = dim_;
    }
    std::copy_n(permutation.begin() + (dim_ - left), bin, columns.data<int32_t>() + b * bin);
    left -= bin;
  }
  functions_ = columns.to(device_, {Category::index, name_ + ".columns"});
}

void LshIndex::hash_rows(const Tensor& rows, const Tensor& out) const {
  const int64_t count = rows.matrix().rows;
  const kernels::Exec exec = rows.exec();
  const Tensor codes = Tensor::empty({count, options_.tables}, {Category::index, name_ + ".hashed"},
                                     DType::int32, device_);
  if (options_.hash == LshHash::dwta) {
    kernels::wta_codes(exec, rows.matrix(),
                       {options_.tables, options_.bits / options_.bin_bits, options_.bin_bits},
                       functions_.data<int32_t>(), codes.data<int32_t>());
  } else {
    const Tensor projections =
        Tensor::empty({count, functions_.size(0)}, {Category::workspace, name_ + ".projections"},
                      DType::float32, device_);
    kernels::gemm(exec, kernels::Transpose::no, kernels::Transpose::yes, 1.0f, rows.matrix(),
                  functions_.matrix(), 0.0f, projections.matrix());
    kernels::simhash_codes(exec, projections.matrix(), options_.tables, options_.bits,
                           codes.data<int32_t>());
  }
  out.copy_from(codes);
}

Tensor LshIndex::codes(const Tensor& x) const {
  check(built_, "[{}] the index has not been built", name_);
  const Tensor rows = x.reshape({-1, dim_});
  const Tensor result = index_array(name_ + ".query_codes", {rows.size(0), options_.tables});
  for (int64_t begin = 0; begin < rows.size(0); begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, rows.size(0) - begin);
    hash_rows(rows.rows(begin, count), result.rows(begin, count));
  }
  return result;
}

void LshIndex::rebuild(const Tensor& table, kernels::PhiloxKey key) {
  check(table.shape() == Shape{rows_, dim_}, "[{}] a table {} for an index of [{}, {}]", name_,
        to_string(table.shape()), rows_, dim_);
  const MemoryScope scope(name_);
  key_ = key;
  draw_functions();
  for (int64_t begin = 0; begin < rows_; begin += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, rows_ - begin);
    hash_rows(table.rows(begin, count), codes_.rows(begin, count));
  }
  built_ = true;
  for_each_table([&](int64_t l) { fill(l); });
}

void LshIndex::fill(int64_t table) {
  std::fill_n(sizes_.data<int32_t>() + table * buckets(), buckets(), 0);
  std::fill_n(belong_.data<int32_t>() + table * buckets(), buckets(), 0);
  for (int64_t r = 0; r < rows_; ++r) {
    insert(table, static_cast<int32_t>(r), codes_.data<int32_t>()[r * options_.tables + table]);
  }
}

uint64_t LshIndex::priority(int64_t table, int32_t row) const {
  const uint64_t index = static_cast<uint64_t>(table) << 32 | static_cast<uint32_t>(row);
  const uint64_t drawn = kernels::philox_bits({key_.seed ^ key_.offset, uint64_t{1} << 63}, index);
  return drawn << 32 | static_cast<uint32_t>(row);  // no two are equal
}

// Members stand as a heap with the largest priority in front: of what comes to a full bucket, most
// is turned away by one comparison.
void LshIndex::insert(int64_t table, int32_t row, int32_t code) {
  const int64_t bucket = table * buckets() + code;
  int32_t* const members = members_.data<int32_t>() + bucket * options_.bucket_limit;
  int32_t& size = sizes_.data<int32_t>()[bucket];
  const auto before = [&](int32_t a, int32_t b) { return priority(table, a) < priority(table, b); };
  ++belong_.data<int32_t>()[bucket];
  if (size == options_.bucket_limit) {
    if (!before(row, members[0])) return;
    std::pop_heap(members, members + size, before);
    --size;
  }
  members[size++] = row;
  std::push_heap(members, members + size, before);
}

bool LshIndex::remove(int64_t table, int32_t row, int32_t code) {
  const int64_t bucket = table * buckets() + code;
  int32_t* const members = members_.data<int32_t>() + bucket * options_.bucket_limit;
  int32_t& size = sizes_.data<int32_t>()[bucket];
  const int32_t left = --belong_.data<int32_t>()[bucket];
  int32_t* const found = std::find(members, members + size, row);
  if (found == members + size) return true;
  *found = members[--size];
  std::make_heap(members, members + size,
                 [&](int32_t a, int32_t b) { return priority(table, a) < priority(table, b); });
  return size == left;
}

void LshIndex::update(const Tensor& table, const Tensor& ids) {
  check(built_, "[{}] the index has not been built", name_);
  const MemoryScope scope(name_);
  const int64_t count = ids.numel();
  const Tensor there = ids.to(device_, {Category::index, name_ + ".updated"});
  for (int64_t begin = 0; begin < count; begin += kRowsAtOnce) {
    const int64_t part = std::min(kRowsAtOnce, count - begin);
    const Tensor rows = Tensor::empty({part, dim_}, {Category::workspace, name_ + ".updated_rows"},
                                      DType::float32, device_);
    kernels::gather_rows(rows.exec(), table.matrix(), there.data<int32_t>() + begin, -1,
                         rows.matrix());
    const Tensor fresh = index_array(name_ + ".updated_codes", {part, options_.tables});
    hash_rows(rows, fresh);
    const int32_t* const id = ids.data<int32_t>() + begin;
    for_each_table([&](int64_t l) {
      bool complete = true;
      for (int64_t i = 0; i < part; ++i) {
        int32_t& code = codes_.data<int32_t>()[int64_t{id[i]} * options_.tables + l];
        const int32_t now = fresh.data<int32_t>()[i * options_.tables + l];
        if (code == now) continue;
        complete = remove(l, id[i], code) && complete;
        insert(l, id[i], now);
        code = now;
      }
      if (!complete) fill(l);
    });
  }
}

LshIndex::Hits LshIndex::find(const Tensor& query_codes) const {
  check(built_, "[{}] the index has not been built", name_);
  // How often each row has been hit, by number of the row.
  const Tensor counts = index_array(name_ + ".hits", {rows_});
  int32_t* const count = counts.data<int32_t>();
  Hits hits;
  if (MemoryTrace::active()) {
    hits.rows.resize(static_cast<size_t>(rows_));
    std::iota(hits.rows.begin(), hits.rows.end(), 0);
    hits.counts.assign(hits.rows.size(), 1);
    return hits;
  }
  const int32_t* const code = query_codes.data<int32_t>();
  for (int64_t i = 0; i < query_codes.numel(); ++i) {
    const int64_t bucket = i % options_.tables * buckets() + code[i];
    const int32_t* const members = members_.data<int32_t>() + bucket * options_.bucket_limit;
    for (int32_t m = 0; m < sizes_.data<int32_t>()[bucket]; ++m) {
      if (count[members[m]]++ == 0) hits.rows.push_back(members[m]);
    }
  }
  std::sort(hits.rows.begin(), hits.rows.end());
  for (const int32_t row : hits.rows) hits.counts.push_back(count[row]);
  return hits;
}

Tensor LshIndex::row_codes(const Tensor& ids) const {
  const int64_t count = ids.numel();
  const Tensor result = index_array(name_ + ".row_codes", {options_.tables, count});
  for (int64_t i = 0; i < count; ++i) {
    const int32_t* const code =
        codes_.data<int32_t>() + int64_t{ids.data<int32_t>()[i]} * options_.tables;
    for (int64_t l = 0; l < options_.tables; ++l) result.data<int32_t>()[l * count + i] = code[l];
  }
  return result;
}

void LshIndex::save(StateDict& state, const std::string& prefix) const {
  if (!built_) return;
  state.set_unsigned(prefix + "seed", key_.seed);
  state.set_unsigned(prefix + "offset", key_.offset);
  state.tensors[prefix + "codes"] = codes_;
}

void LshIndex::load(const StateDict& state, const std::string& prefix) {
  if (!state.tensors.contains(prefix + "codes")) return;
  key_ = {state.unsigned_integer(prefix + "seed"), state.unsigned_integer(prefix + "offset")};
  state.copy_to(prefix + "codes", codes_);
  const int64_t wrong =
      kernels::find_out_of_range(codes_.exec(), codes_.data<int32_t>(), codes_.numel(), buckets());
  if (wrong >= 0) {
    throw DataError(state.source, 0,
                    fmt::format("{}codes holds {} at {}, a code has {} bits", prefix,
                                codes_.data<int32_t>()[wrong], wrong, options_.bits));
  }
  draw_functions();
  built_ = true;
  for_each_table([&](int64_t l) { fill(l); });
}

}  // namespace sketchgrad
