#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <string>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/gemm_impl.h"

namespace sketchgrad::kernels::cpu {

namespace {

static_assert(DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP ||
                  DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_SEQ,
              "products need oneDNN's OpenMP or sequential build");

// The OpenMP runtime that oneDNN brought along, whichever that is: linking to one by name could add
// a second one, whose settings oneDNN would not see.
struct OpenMp {
  int (*get_max_threads)() = find<int()>("omp_get_max_threads");
  void (*set_num_threads)(int) = find<void(int)>("omp_set_num_threads");

  template <class Function>
  static Function* find(const char* name) {
    void* const symbol = dlsym(RTLD_DEFAULT, name);
    if (symbol == nullptr && DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP) {
      throw NotCompiled(std::string("[gemm] oneDNN runs on OpenMP, but ") + name +
                        " is not among the program's dynamic symbols");
    }
    return reinterpret_cast<Function*>(symbol);
  }
};

// TBB owns the threads: inside a tile, oneDNN computes in the calling thread alone. OpenMP keeps
// this number per thread, so it is set at each call and given back to the thread's owner.
class OneOpenMpThread {
 public:
  OneOpenMpThread() {
    if (open_mp().set_num_threads == nullptr) return;
    saved_ = open_mp().get_max_threads();
    open_mp().set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (saved_ > 0) open_mp().set_num_threads(saved_);
  }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  static const OpenMp& open_mp() {
    static const OpenMp symbols;
    return symbols;
  }
  int saved_ = 0;
};

// A single row may carry any stride, but oneDNN asks for one that covers the row.
int64_t leading_dimension(ConstMatrix matrix) { return std::max(matrix.stride, matrix.cols); }

void sgemm(Transpose transpose_a, Transpose transpose_b, float alpha, ConstMatrix a, ConstMatrix b,
           float beta, Matrix c) {
  const OneOpenMpThread one_thread;
  const dnnl_status_t status = dnnl_sgemm(
      transpose_a == Transpose::yes ? 'T' : 'N', transpose_b == Transpose::yes ? 'T' : 'N', c.rows,
      c.cols, transpose_a == Transpose::yes ? a.rows : a.cols, alpha, a.data, leading_dimension(a),
      b.data, leading_dimension(b), beta, c.data, leading_dimension(c));
  if (status != dnnl_success) {
    throw Error("[gemm] dnnl_sgemm failed with status " + std::to_string(status));
  }
}

}  // namespace

void gemm(const Exec& exec, Transpose transpose_a, Transpose transpose_b, float alpha,
          ConstMatrix a, ConstMatrix b, float beta, Matrix c) {
  impl::gemm(TbbPolicy{}, exec, sgemm, transpose_a, transpose_b, alpha, a, b, beta, c);
}

}  // namespace sketchgrad::kernels::cpu
