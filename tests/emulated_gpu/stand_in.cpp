// Stands in for every *_cuda.cu and *_cuda.cpp in the program test_emulated_gpu: a "GPU" on the
// CPU. Loops are serial, lane groups run on an emulated warp (emulated_warp.h), and what CUB,
// cuBLAS and cuDNN do is done by plain loops. What is the project's own of a kernel is thus what a
// GPU runs, and so is everything above: which device memory is on, what is copied, what is
// dispatched. Device memory cannot be touched but by kernels and copies: code that reads it on the
// host crashes here, as it would with a GPU.
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <vector>

#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/elementwise_impl.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/factors_impl.h"
#include "sketchgrad/kernels/factors_lanes.h"
#include "sketchgrad/kernels/gemm_impl.h"
#include "sketchgrad/kernels/heavy_rows_impl.h"
#include "sketchgrad/kernels/lsh_impl.h"
#include "sketchgrad/kernels/lstm_impl.h"
#include "sketchgrad/kernels/lstm_layer_impl.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/multi_label_impl.h"
#include "sketchgrad/kernels/multi_label_lanes.h"
#include "sketchgrad/kernels/random_impl.h"
#include "sketchgrad/kernels/reduce_impl.h"
#include "sketchgrad/kernels/reduce_lanes.h"
#include "sketchgrad/kernels/rows_impl.h"
#include "sketchgrad/kernels/rows_sorting.h"
#include "sketchgrad/kernels/sketch_impl.h"
#include "sketchgrad/kernels/softmax_impl.h"
#include "sketchgrad/kernels/softmax_lanes.h"
#include "sketchgrad/kernels/update_impl.h"
#include "sketchgrad/kernels/update_lanes.h"
#include "sketchgrad/tests/support/emulated_warp.h"
#include "sketchgrad/tests/support/lstm_layer_reference.h"
#include "sketchgrad/tests/support/std_algorithms.h"

namespace sketchgrad::kernels::cuda {

namespace {

// Address space for device memory, taken from its start and never given back: the framework's
// allocator reuses blocks. In huge pages, since opening and closing takes as long as there are
// pages. For tests that queue work from one thread.
class DeviceArena {
 public:
  static constexpr size_t kBytes = size_t{1} << 32;

  void* take(size_t bytes) {
    constexpr size_t kAlignment = 4096;
    const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (rounded > kBytes - used_) return nullptr;
    used_ += rounded;
    set_access();
    return start_ + used_ - rounded;
  }
  size_t used() const { return used_; }

  void open() {
    if (users_++ == 0) set_access();
  }
  void close() {
    if (--users_ == 0) set_access();
  }

 private:
  void set_access() {
    const int protection = users_ > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
    const size_t bytes = (used_ + kHugePage - 1) / kHugePage * kHugePage;
    if (bytes > 0 && mprotect(start_, bytes, protection) != 0) {
      throw CudaError("[emulated] mprotect failed");
    }
  }

  static constexpr size_t kHugePage = size_t{2} << 20;
  static char* reserve() {
    void* start = mmap(nullptr, kBytes + kHugePage, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t space = kBytes + kHugePage;
    std::align(kHugePage, kBytes, start, space);
    madvise(start, kBytes, MADV_HUGEPAGE);  // where there are any
    return static_cast<char*>(start);
  }

  char* const start_ = reserve();
  size_t used_ = 0;
  int users_ = 0;
};

DeviceArena& arena() {
  static DeviceArena made;
  return made;
}

// While one lives, device memory may be touched.
class OnDevice {
 public:
  OnDevice() { arena().open(); }
  ~OnDevice() { arena().close(); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
};

using test::StdAlgorithms;

const test::EmulatedPolicy kPolicy{{}, 12345};

template <class T, class Map, class Combine>
T reduce_to_host(const Exec& exec, int64_t count, const Map& map, const Combine& combine,
                 T neutral) {
  const ScratchArray<T> total(exec, 1, "reduce.total");
  const OnDevice on_device;
  reduce_by_lanes<T>(kPolicy, exec, count, map, combine, neutral, StoreResult<T>{total.data()});
  return *total.data();
}

template <class Rule>
int64_t find_first(const Exec& exec, int64_t count, const Rule& rule) {
  const auto to_host = [&](const auto&... arguments) { return reduce_to_host(exec, arguments...); };
  return find_first_by_reducing(to_host, count, rule);
}

}  // namespace

// ---- device.h

void require_device() {}
void* stream() { return nullptr; }
void* allocate(size_t bytes) { return arena().take(bytes); }
void release(void*) noexcept {}
void copy_to_device(const Exec&, const void* from, void* to, size_t bytes) {
  const OnDevice on_device;
  std::memcpy(to, from, bytes);
}
void copy_to_host(const Exec&, const void* from, void* to, size_t bytes) {
  const OnDevice on_device;
  std::memcpy(to, from, bytes);
}
void copy_on_device(const Exec&, const void* from, void* to, size_t bytes) {
  const OnDevice on_device;
  std::memcpy(to, from, bytes);
}
void set_bytes(const Exec&, void* to, uint8_t value, size_t bytes) {
  const OnDevice on_device;
  std::memset(to, value, bytes);
}
void synchronize(const Exec&) {}
DeviceMemory device_memory() {
  constexpr auto kTotal = static_cast<int64_t>(DeviceArena::kBytes);
  return {kTotal - static_cast<int64_t>(arena().used()), kTotal};
}
std::string device_name() { return "emulated"; }

// ---- elementwise.h

void fill(const Exec&, float* out, int64_t count, float value) {
  const OnDevice on_device;
  impl::fill(kPolicy, out, count, value);
}
void copy(const Exec&, const float* in, float* out, int64_t count) {
  const OnDevice on_device;
  impl::copy(kPolicy, in, out, count);
}
void scale(const Exec&, const float* in, float factor, float* out, int64_t count) {
  const OnDevice on_device;
  impl::scale(kPolicy, in, factor, out, count);
}
void scale_by(const Exec&, const float* in, const float* factor, float* out, int64_t count) {
  const OnDevice on_device;
  impl::scale_by(kPolicy, in, factor, out, count);
}
void add_scaled(const Exec&, const float* in, float factor, float* out, int64_t count) {
  const OnDevice on_device;
  impl::add_scaled(kPolicy, in, factor, out, count);
}
void unary(const Exec&, Unary op, const float* in, float* out, int64_t count) {
  const OnDevice on_device;
  impl::unary(kPolicy, op, in, out, count);
}
void unary_backward(const Exec&, Unary op, const float* out, const float* grad_out, float* grad_in,
                    int64_t count) {
  const OnDevice on_device;
  impl::unary_backward(kPolicy, op, out, grad_out, grad_in, count);
}
void binary(const Exec&, Binary op, const float* a, const float* b, float* out, int64_t count) {
  const OnDevice on_device;
  impl::binary(kPolicy, op, a, b, out, count);
}
void add_row(const Exec&, Matrix matrix, const float* row) {
  const OnDevice on_device;
  impl::add_row(kPolicy, matrix, row);
}

// ---- gemm.h

namespace {
// To the nearest, ties away from zero.
float rounded(float factor, ProductPrecision precision) {
  if (precision == ProductPrecision::fp32) return factor;
  const int dropped = precision == ProductPrecision::tf32 ? 13 : 16;  // bits of the mantissa
  const uint32_t bits = bits_from_float(factor) + (uint32_t{1} << (dropped - 1));
  return float_from_bits(bits >> dropped << dropped);
}
}  // namespace

void gemm(const Exec& exec, Transpose transpose_a, Transpose transpose_b, float alpha,
          ConstMatrix a, ConstMatrix b, float beta, Matrix c) {
  const OnDevice on_device;
  const bool swap_a = transpose_a == Transpose::yes, swap_b = transpose_b == Transpose::yes;
  const int64_t depth = swap_a ? a.rows : a.cols;
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      float sum = 0.0f;
      for (int64_t k = 0; k < depth; ++k) {
        sum += rounded(swap_a ? a(k, i) : a(i, k), exec.products) *
               rounded(swap_b ? b(j, k) : b(k, j), exec.products);
      }
      c(i, j) = alpha * sum + (beta == 0.0f ? 0.0f : beta * c(i, j));
    }
  }
}

// ---- lstm.h

void lstm_cell_forward(const Exec&, Matrix gates, const float* bias_input, const float* bias_hidden,
                       ConstMatrix c_previous, Matrix c, Matrix h) {
  const OnDevice on_device;
  impl::lstm_cell_forward(kPolicy, gates, bias_input, bias_hidden, c_previous, c, h);
}
void lstm_cell_backward(const Exec&, Matrix gates, ConstMatrix c_previous, ConstMatrix c,
                        ConstMatrix grad_h, Matrix grad_c) {
  const OnDevice on_device;
  impl::lstm_cell_backward(kPolicy, gates, c_previous, c, grad_h, grad_c);
}

// ---- lstm_layer.h, of cuDNN

int64_t lstm_layer_reserve_bytes(const Exec&, const LstmLayerShape& shape) {
  return test::lstm_reference_reserve_floats(shape) * static_cast<int64_t>(sizeof(float));
}
void lstm_layer_forward(const Exec& exec, const LstmLayerShape& shape,
                        const LstmLayerArrays<const float>& weights, const float* x, const float* h,
                        const float* c, float* y, float* h_next, float* c_next, void* reserve) {
  const int64_t floats = reserve != nullptr ? 0 : test::lstm_reference_reserve_floats(shape);
  const ScratchArray<float> unwanted(exec, floats, "cudnn.workspace");
  const OnDevice on_device;
  test::lstm_reference_forward(shape, weights, x, h, c, y, h_next, c_next,
                               reserve != nullptr ? static_cast<float*>(reserve) : unwanted.data());
}
void lstm_layer_backward(const Exec&, const LstmLayerShape& shape,
                         const LstmLayerArrays<const float>& weights, const float* x,
                         const float* h, const float* c, const float* y, const float* grad_y,
                         void* reserve, float* grad_x, const LstmLayerArrays<float>& gradients) {
  const OnDevice on_device;
  test::lstm_reference_backward(shape, weights, x, h, c, y, grad_y,
                                static_cast<const float*>(reserve), grad_x, gradients);
}

// ---- random.h

void fill_uniform(const Exec&, PhiloxKey key, UniformRule rule, float* out, int64_t count) {
  const OnDevice on_device;
  impl::random_array(kPolicy, key, rule, out, count);
}
void dropout(const Exec&, PhiloxKey key, DropoutRule rule, float* out, int64_t count) {
  const OnDevice on_device;
  impl::random_array(kPolicy, key, rule, out, count);
}

// ---- reduce.h

double sum(const Exec& exec, const float* in, int64_t count) {
  return reduce_to_host(exec, count, MapElement<Value>{in}, Plus{}, 0.0);
}
double sum_of_squares(const Exec& exec, const float* in, int64_t count) {
  return reduce_to_host(exec, count, MapElement<Square>{in}, Plus{}, 0.0);
}
void scaled_sum(const Exec& exec, const float* in, int64_t count, double factor, float* out) {
  const OnDevice on_device;
  reduce_by_lanes(kPolicy, exec, count, MapElement<Value>{in}, Plus{}, 0.0,
                  StoreScaled{factor, out});
}
void add_sum_of_squares(const Exec& exec, const float* in, int64_t count, double* total) {
  const OnDevice on_device;
  reduce_by_lanes(kPolicy, exec, count, MapElement<Square>{in}, Plus{}, 0.0, AddResult{total});
}
void clip_factor(const Exec&, const double* squares, double max_norm, float* norm, float* factor) {
  const OnDevice on_device;
  for_each(kPolicy, 1, ClipFactor{squares, max_norm, norm, factor});
}
void add_column_sums(const Exec& exec, ConstMatrix in, float* out) {
  const OnDevice on_device;
  add_column_sums_by_lanes(kPolicy, exec, in, out);
}

// ---- factors.h

void reduce_rows(const Exec&, const FactorElement& element, float* out) {
  const OnDevice on_device;
  reduce_factor_rows_by_lanes(kPolicy, element, out);
}
void reduce_columns(const Exec& exec, const FactorElement& element, float* out) {
  const OnDevice on_device;
  reduce_factor_columns_by_lanes(kPolicy, exec, element, out);
}
void sum_of_entries(const Exec& exec, const EntryElement& element, int64_t count, float* out) {
  const OnDevice on_device;
  sum_of_entries_by_lanes(kPolicy, exec, element, count, out);
}
void sum_of_products(const Exec& exec, const EntryProduct& element, int64_t count, double* out) {
  const OnDevice on_device;
  sum_of_products_by_lanes(kPolicy, exec, element, count, out);
}
void for_each_factor(const Exec&, const FactorLoop& loop, int64_t count) {
  const OnDevice on_device;
  impl::for_each_factor(kPolicy, loop, count);
}

// ---- rows.h

void gather_rows(const Exec&, ConstMatrix table, const int32_t* ids, int32_t padding_id,
                 Matrix out) {
  const OnDevice on_device;
  impl::gather_rows(kPolicy, table, ids, padding_id, out);
}
void scatter_add_rows(const Exec&, ConstMatrix rows, const int32_t* ids, float factor,
                      Matrix table) {
  const OnDevice on_device;
  impl::scatter_add_rows(kPolicy, rows, ids, factor, table);
}
int64_t find_out_of_range(const Exec& exec, const int32_t* ids, int64_t count, int64_t limit,
                          int32_t low) {
  return find_first(exec, count, OutOfRange::of(ids, limit, low));
}
int64_t find_not_increasing(const Exec& exec, const int32_t* ids, int64_t count) {
  const int64_t i = find_first(exec, count - 1, NextNotAbove{ids});
  return i < 0 ? -1 : i + 1;
}
int64_t count_id(const Exec& exec, const int32_t* ids, int64_t count, int32_t id) {
  return reduce_to_host(exec, count, CountWhere<IdIs>{{ids, id}}, Plus{}, int64_t{0});
}
void copy_other_ids(const Exec& exec, const int32_t* ids, int64_t count, int32_t id,
                    int32_t* other_ids, int32_t* places) {
  const OnDevice on_device;
  copy_other_ids_by_selecting(kPolicy, exec, StdAlgorithms{}, ids, count, id, other_ids, places);
}
Groups group_by_key(const Exec& exec, const int32_t* item_keys, int64_t items, int64_t key_limit,
                    int32_t* keys, int32_t* begin, int32_t* order) {
  const OnDevice on_device;
  return group_by_sorting(kPolicy, exec, StdAlgorithms{}, item_keys, items, key_limit, keys, begin,
                          order);
}
void csr_matmul(const Exec&, const CsrMatrix& a, ConstMatrix table, Matrix out) {
  const OnDevice on_device;
  for_each_row(kPolicy, a.rows, table.cols, MultiplyCsrRow{a, table, out});
}
void sum_groups(const Exec&, const Groups& groups, ConstMatrix values, Matrix out) {
  const OnDevice on_device;
  for_each_row(kPolicy, groups.count, values.cols, SumGroup{groups, values, out});
}

// ---- multi_label.h

void take_label_logits(const Exec&, ConstMatrix logits, const float* bias, const CsrMatrix& labels,
                       float* sums) {
  const OnDevice on_device;
  impl::take_label_logits(kPolicy, logits, bias, labels, sums);
}
void subtract_labels(const Exec&, const CsrMatrix& labels, float factor, Matrix gradient) {
  const OnDevice on_device;
  impl::subtract_labels(kPolicy, labels, factor, gradient);
}
void sigmoid_cross_entropy(const Exec& exec, Matrix logits, const float* bias, float factor,
                           float* sums) {
  const OnDevice on_device;
  sigmoid_cross_entropy_by_lanes(kPolicy, exec, logits, bias, factor, sums);
}

// ---- lsh.h

void row_norms(const Exec&, ConstMatrix rows, float* out) {
  const OnDevice on_device;
  impl::row_norms(kPolicy, rows, out);
}
void simhash_codes(const Exec&, ConstMatrix projections, int tables, int bits, int32_t* codes) {
  const OnDevice on_device;
  impl::simhash_codes(kPolicy, projections, tables, bits, codes);
}
void wta_codes(const Exec&, ConstMatrix rows, WtaShape shape, const int32_t* columns,
               int32_t* codes) {
  const OnDevice on_device;
  impl::wta_codes(kPolicy, rows, shape, columns, codes);
}
void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights& weights) {
  const OnDevice on_device;
  impl::weigh_collisions(kPolicy, logits, weights);
}

// ---- heavy_rows.h, sketch.h, softmax.h, update.h

void set_keys(const Exec&, const SetElement& element, int64_t rows) {
  const OnDevice on_device;
  for_each(kPolicy, rows, element);
}
void claim_slots(const Exec&, const ClaimOfSet& claim) {
  const OnDevice on_device;
  for_each(kPolicy, claim.groups.count, claim);
}
void move_to_slots(const Exec&, const MoveToSlot& move, int64_t units) {
  const OnDevice on_device;
  for_each(kPolicy, units, move);
}

void fold_sketch(const Exec&, const FoldBuckets& fold) {
  const OnDevice on_device;
  for_each_row(kPolicy, fold.to.depth * fold.to.width, fold.to.dim, fold);
}
void scale_sketch(const Exec&, const ScaleBuckets& scale) {
  const OnDevice on_device;
  for_each_row(kPolicy, scale.sketch.depth * scale.sketch.width, scale.sketch.dim, scale);
}
void sketch_slots(const Exec&, const SlotElement& element, int64_t rows) {
  const OnDevice on_device;
  for_each(kPolicy, rows, element);
}

void online_softmax_begin(const Exec&, OnlineSoftmax state, int64_t tokens) {
  const OnDevice on_device;
  impl::online_softmax_begin(kPolicy, state, tokens);
}
void online_softmax_update(const Exec& exec, Matrix logits, const float* bias, int64_t vocab_begin,
                           const int32_t* targets, OnlineSoftmax state) {
  const OnDevice on_device;
  online_softmax_update_by_lanes(kPolicy, exec, logits, bias, vocab_begin, targets, state);
}
void online_softmax_losses(const Exec&, OnlineSoftmax state, const int32_t* targets, int64_t tokens,
                           float* losses) {
  const OnDevice on_device;
  impl::online_softmax_losses(kPolicy, state, targets, tokens, losses);
}
void softmax_cross_entropy_gradient(const Exec&, Matrix logits, const float* bias,
                                    int64_t vocab_begin, const int32_t* targets,
                                    OnlineSoftmax state, float factor) {
  const OnDevice on_device;
  impl::softmax_cross_entropy_gradient(kPolicy, logits, bias, vocab_begin, targets, state, factor);
}

void take_target_logits(const Exec&, Matrix logits, const float* bias, const int32_t* places,
                        const float* offsets, OnlineSoftmax state) {
  const OnDevice on_device;
  impl::take_target_logits(kPolicy, logits, bias, places, offsets, state);
}
void add_target_logits(const Exec&, const int32_t* places, int64_t tokens, OnlineSoftmax state) {
  const OnDevice on_device;
  impl::add_target_logits(kPolicy, places, tokens, state);
}
void put_target_gradients(const Exec&, Matrix gradient, const int32_t* places, OnlineSoftmax state,
                          float scale) {
  const OnDevice on_device;
  impl::put_target_gradients(kPolicy, gradient, places, state, scale);
}

void update_rows(const Exec&, const UpdateRule& rule, const ElementAccess& first,
                 const ElementAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter) {
  const OnDevice on_device;
  update_rows_impl(kPolicy, rule, first, second, ids, gradient, parameter);
}
void update_pieces(const Exec& exec, const UpdateRule& rule, const StateAccess& first,
                   const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                   Matrix parameter) {
  const OnDevice on_device;
  update_pieces_by_lanes(kPolicy, exec, rule, first, second, ids, gradient, parameter);
}

}  // namespace sketchgrad::kernels::cuda
