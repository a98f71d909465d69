#include "sketchgrad/kernels/elementwise_impl.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/update_impl.h"

// Takes the place of every *_cuda.cu in a build without CUDA.
namespace sketchgrad::kernels::cuda {

namespace {
[[noreturn]] void not_compiled() { throw NotCompiled("sketchgrad was built without CUDA"); }
}  // namespace

void fill(const Exec&, float*, int64_t, float) { not_compiled(); }
void copy(const Exec&, const float*, float*, int64_t) { not_compiled(); }
void scale(const Exec&, const float*, float, float*, int64_t) { not_compiled(); }
void add_scaled(const Exec&, const float*, float, float*, int64_t) { not_compiled(); }
void unary(const Exec&, Unary, const float*, float*, int64_t) { not_compiled(); }
void unary_backward(const Exec&, Unary, const float*, const float*, float*, int64_t) {
  not_compiled();
}
void binary(const Exec&, Binary, const float*, const float*, float*, int64_t) { not_compiled(); }
void add_row(const Exec&, Matrix, const float*) { not_compiled(); }

void update_rows(const Exec&, const UpdateRule&, const ElementAccess&, const ElementAccess&,
                 const int32_t*, ConstMatrix, Matrix) {
  not_compiled();
}

}  // namespace sketchgrad::kernels::cuda
