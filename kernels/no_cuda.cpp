#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/elementwise_impl.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/factors_impl.h"
#include "sketchgrad/kernels/gemm_impl.h"
#include "sketchgrad/kernels/heavy_rows_impl.h"
#include "sketchgrad/kernels/lsh_impl.h"
#include "sketchgrad/kernels/lstm_impl.h"
#include "sketchgrad/kernels/lstm_layer_impl.h"
#include "sketchgrad/kernels/multi_label_impl.h"
#include "sketchgrad/kernels/random_impl.h"
#include "sketchgrad/kernels/ranges.h"
#include "sketchgrad/kernels/reduce_impl.h"
#include "sketchgrad/kernels/rows_impl.h"
#include "sketchgrad/kernels/sketch_impl.h"
#include "sketchgrad/kernels/softmax_impl.h"
#include "sketchgrad/kernels/update_impl.h"

// Takes the place of every *_cuda.cu and *_cuda.cpp in a build without CUDA.
namespace sketchgrad::kernels::cuda {

namespace {
[[noreturn]] void not_compiled() {
  throw NotCompiled("sketchgrad was built without CUDA; use cpu");
}
}  // namespace

void require_device() { not_compiled(); }
void* stream() { not_compiled(); }
void* allocate(size_t) { not_compiled(); }
// Nothing was allocated.
void release(void*) noexcept {}
void copy_to_device(const Exec&, const void*, void*, size_t) { not_compiled(); }
void copy_to_host(const Exec&, const void*, void*, size_t) { not_compiled(); }
void copy_on_device(const Exec&, const void*, void*, size_t) { not_compiled(); }
void set_bytes(const Exec&, void*, uint8_t, size_t) { not_compiled(); }
void synchronize(const Exec&) { not_compiled(); }
DeviceMemory device_memory() { not_compiled(); }
void push_range(const char*) noexcept {}
void pop_range() noexcept {}
std::string device_name() { not_compiled(); }

void fill(const Exec&, float*, int64_t, float) { not_compiled(); }
void copy(const Exec&, const float*, float*, int64_t) { not_compiled(); }
void scale(const Exec&, const float*, float, float*, int64_t) { not_compiled(); }
void scale_by(const Exec&, const float*, const float*, float*, int64_t) { not_compiled(); }
void add_scaled(const Exec&, const float*, float, float*, int64_t) { not_compiled(); }
void unary(const Exec&, Unary, const float*, float*, int64_t) { not_compiled(); }
void unary_backward(const Exec&, Unary, const float*, const float*, float*, int64_t) {
  not_compiled();
}
void binary(const Exec&, Binary, const float*, const float*, float*, int64_t) { not_compiled(); }
void add_row(const Exec&, Matrix, const float*) { not_compiled(); }

void gemm(const Exec&, Transpose, Transpose, float, ConstMatrix, ConstMatrix, float, Matrix) {
  not_compiled();
}

void lstm_cell_forward(const Exec&, Matrix, const float*, const float*, ConstMatrix, Matrix,
                       Matrix) {
  not_compiled();
}
void lstm_cell_backward(const Exec&, Matrix, ConstMatrix, ConstMatrix, ConstMatrix, Matrix) {
  not_compiled();
}

int64_t lstm_layer_reserve_bytes(const Exec&, const LstmLayerShape&) { not_compiled(); }
void lstm_layer_forward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                        const float*, const float*, const float*, float*, float*, float*, void*) {
  not_compiled();
}
void lstm_layer_backward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                         const float*, const float*, const float*, const float*, const float*,
                         void*, float*, const LstmLayerArrays<float>&) {
  not_compiled();
}

void fill_uniform(const Exec&, PhiloxKey, UniformRule, float*, int64_t) { not_compiled(); }
void dropout(const Exec&, PhiloxKey, DropoutRule, float*, int64_t) { not_compiled(); }

double sum(const Exec&, const float*, int64_t) { not_compiled(); }
double sum_of_squares(const Exec&, const float*, int64_t) { not_compiled(); }
void scaled_sum(const Exec&, const float*, int64_t, double, float*) { not_compiled(); }
void add_sum_of_squares(const Exec&, const float*, int64_t, double*) { not_compiled(); }
void clip_factor(const Exec&, const double*, double, float*, float*) { not_compiled(); }
void add_column_sums(const Exec&, ConstMatrix, float*) { not_compiled(); }

void reduce_rows(const Exec&, const FactorElement&, float*) { not_compiled(); }
void reduce_columns(const Exec&, const FactorElement&, float*) { not_compiled(); }
void sum_of_entries(const Exec&, const EntryElement&, int64_t, float*) { not_compiled(); }
void sum_of_products(const Exec&, const EntryProduct&, int64_t, double*) { not_compiled(); }
void for_each_factor(const Exec&, const FactorLoop&, int64_t) { not_compiled(); }

void set_keys(const Exec&, const SetElement&, int64_t) { not_compiled(); }
void claim_slots(const Exec&, const ClaimOfSet&) { not_compiled(); }
void move_to_slots(const Exec&, const MoveToSlot&, int64_t) { not_compiled(); }

void gather_rows(const Exec&, ConstMatrix, const int32_t*, int32_t, Matrix) { not_compiled(); }
void scatter_add_rows(const Exec&, ConstMatrix, const int32_t*, float, Matrix) { not_compiled(); }
int64_t find_out_of_range(const Exec&, const int32_t*, int64_t, int64_t, int32_t) {
  not_compiled();
}
int64_t find_not_increasing(const Exec&, const int32_t*, int64_t) { not_compiled(); }
int64_t count_id(const Exec&, const int32_t*, int64_t, int32_t) { not_compiled(); }
void copy_other_ids(const Exec&, const int32_t*, int64_t, int32_t, int32_t*, int32_t*) {
  not_compiled();
}
Groups group_by_key(const Exec&, const int32_t*, int64_t, int64_t, int32_t*, int32_t*, int32_t*) {
  not_compiled();
}
void csr_matmul(const Exec&, const CsrMatrix&, ConstMatrix, Matrix) { not_compiled(); }
void sum_groups(const Exec&, const Groups&, ConstMatrix, Matrix) { not_compiled(); }

void row_norms(const Exec&, ConstMatrix, float*) { not_compiled(); }
void simhash_codes(const Exec&, ConstMatrix, int, int, int32_t*) { not_compiled(); }
void wta_codes(const Exec&, ConstMatrix, WtaShape, const int32_t*, int32_t*) { not_compiled(); }
void weigh_collisions(const Exec&, Matrix, const CollisionWeights&) { not_compiled(); }
void sketch_slots(const Exec&, const SlotElement&, int64_t) { not_compiled(); }
void scale_sketch(const Exec&, const ScaleBuckets&) { not_compiled(); }
void fold_sketch(const Exec&, const FoldBuckets&) { not_compiled(); }

void take_label_logits(const Exec&, ConstMatrix, const float*, const CsrMatrix&, float*) {
  not_compiled();
}
void subtract_labels(const Exec&, const CsrMatrix&, float, Matrix) { not_compiled(); }
void sigmoid_cross_entropy(const Exec&, Matrix, const float*, float, float*) { not_compiled(); }

void online_softmax_begin(const Exec&, OnlineSoftmax, int64_t) { not_compiled(); }
void online_softmax_update(const Exec&, Matrix, const float*, int64_t, const int32_t*,
                           OnlineSoftmax) {
  not_compiled();
}
void online_softmax_losses(const Exec&, OnlineSoftmax, const int32_t*, int64_t, float*) {
  not_compiled();
}
void softmax_cross_entropy_gradient(const Exec&, Matrix, const float*, int64_t, const int32_t*,
                                    OnlineSoftmax, float) {
  not_compiled();
}
void take_target_logits(const Exec&, Matrix, const float*, const int32_t*, const float*,
                        OnlineSoftmax) {
  not_compiled();
}
void add_target_logits(const Exec&, const int32_t*, int64_t, OnlineSoftmax) { not_compiled(); }
void put_target_gradients(const Exec&, Matrix, const int32_t*, OnlineSoftmax, float) {
  not_compiled();
}

void update_rows(const Exec&, const UpdateRule&, const ElementAccess&, const ElementAccess&,
                 const int32_t*, ConstMatrix, Matrix) {
  not_compiled();
}
void update_pieces(const Exec&, const UpdateRule&, const StateAccess&, const StateAccess&,
                   const int32_t*, ConstMatrix, Matrix) {
  not_compiled();
}

}  // namespace sketchgrad::kernels::cuda
