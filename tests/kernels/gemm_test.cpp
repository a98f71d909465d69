#include "sketchgrad/kernels/gemm.h"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/gemm_impl.h"
#include "sketchgrad/tests/support/test_exec.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

namespace {

// A matrix with a stride wider than its rows.
struct Padded {
  Padded(int64_t rows, int64_t cols, int64_t padding, uint32_t seed)
      : values(static_cast<size_t>(rows * (cols + padding)) + 1),
        view{values.data(), rows, cols, cols + padding} {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : values) value = uniform(random);
  }
  std::vector<float> values;
  Matrix view;
};

float element(ConstMatrix matrix, Transpose transpose, int64_t r, int64_t c) {
  return transpose == Transpose::yes ? matrix(c, r) : matrix(r, c);
}

struct Shape {
  int64_t m, n, k;
};

struct Product {
  Shape shape;
  Transpose transpose_a, transpose_b;
  float alpha, beta;
};

// a, b and c of a product; c may hold values that must not be read.
struct Operands {
  explicit Operands(const Product& product, int64_t padding = 3)
      : a(stored(product.shape.m, product.shape.k, product.transpose_a, padding, 1)),
        b(stored(product.shape.k, product.shape.n, product.transpose_b, padding, 2)),
        c(product.shape.m, product.shape.n, padding, 3) {
    if (product.beta == 0) {
      for (float& value : c.values) value = std::numeric_limits<float>::quiet_NaN();
    }
  }
  static Padded stored(int64_t rows, int64_t cols, Transpose transpose, int64_t padding,
                       uint32_t seed) {
    return transpose == Transpose::yes ? Padded(cols, rows, padding, seed)
                                       : Padded(rows, cols, padding, seed);
  }
  Padded a, b, c;
};

void check_against_reference(const Product& p) {
  Operands actual(p);
  const Operands before(p);
  gemm(test::cpu_exec(), p.transpose_a, p.transpose_b, p.alpha, actual.a.view, actual.b.view,
       p.beta, actual.c.view);
  int64_t wrong = 0;
  for (int64_t i = 0; i < p.shape.m; ++i) {
    for (int64_t j = 0; j < p.shape.n; ++j) {
      double sum = 0, magnitude = 0;
      for (int64_t l = 0; l < p.shape.k; ++l) {
        const double term = double{element(before.a.view, p.transpose_a, i, l)} *
                            double{element(before.b.view, p.transpose_b, l, j)};
        sum += term;
        magnitude += std::fabs(term);
      }
      double expected = p.alpha * sum;
      if (p.beta != 0) expected += double{p.beta} * double{before.c.view(i, j)};
      const double tolerance = 1e-6 * (std::fabs(p.alpha) * magnitude + std::fabs(p.beta)) + 1e-30;
      wrong += !(std::fabs(double{actual.c.view(i, j)} - expected) <= tolerance);
    }
  }
  CAPTURE(p.shape.m);
  CAPTURE(p.shape.n);
  CAPTURE(p.shape.k);
  CHECK(wrong == 0);
  // The padding between rows stays as it was.
  for (int64_t i = 0; i < p.shape.m; ++i) {
    const float now = actual.c.view.row(i)[p.shape.n], then = before.c.view.row(i)[p.shape.n];
    CHECK((now == then || (std::isnan(now) && std::isnan(then))));
  }
}

// One tile, in the plainest way.
void plain_product(Transpose transpose_a, Transpose transpose_b, float alpha, ConstMatrix a,
                   ConstMatrix b, float beta, Matrix c) {
  const int64_t depth = transpose_a == Transpose::yes ? a.rows : a.cols;
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < depth; ++l) {
        sum += element(a, transpose_a, i, l) * element(b, transpose_b, l, j);
      }
      c(i, j) = alpha * sum + (beta == 0 ? 0.0f : beta * c(i, j));
    }
  }
}

const std::vector<Shape> kTiledShapes = {{700, 800, 200}, {20, 800, 200},   {20, 200, 800},
                                         {175, 2100, 40}, {705, 2100, 9},   {33, 7, 5000},
                                         {2100, 33, 175}, {24, 200, 20000}, {1, 1500, 1000}};

bool same_bits(const Padded& a, const Padded& b) {
  for (int64_t r = 0; r < a.view.rows; ++r) {
    for (int64_t c = 0; c < a.view.cols; ++c) {
      if (a.view(r, c) != b.view(r, c)) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("gemm agrees with a double-precision product") {
  const int64_t sizes[] = {0, 1, 7, 33};
  for (const int64_t m : sizes) {
    for (const int64_t n : sizes) {
      for (const int64_t k : sizes) {
        for (const Transpose ta : {Transpose::no, Transpose::yes}) {
          for (const Transpose tb : {Transpose::no, Transpose::yes}) {
            check_against_reference({{m, n, k}, ta, tb, 1.0f, 0.0f});
            check_against_reference({{m, n, k}, ta, tb, -0.5f, 2.0f});
          }
        }
      }
    }
  }
  check_against_reference({{7, 33, 7}, Transpose::no, Transpose::no, 0.0f, 1.0f});
  check_against_reference({{7, 33, 7}, Transpose::no, Transpose::no, 0.0f, 0.0f});
}

TEST_CASE("gemm agrees with a double-precision product where it is tiled or sliced") {
  for (const Shape shape : {Shape{205, 1031, 37}, Shape{177, 49, 513}, Shape{33, 7, 5000},
                            Shape{20, 200, 9001}, Shape{1, 1, 100000}}) {
    check_against_reference({shape, Transpose::no, Transpose::yes, 1.0f, 0.0f});
    check_against_reference({shape, Transpose::yes, Transpose::no, 0.5f, 1.0f});
  }
}

TEST_CASE("gemm plans cover the product with tiles of useful size") {
  for (const Shape s : kTiledShapes) {
    const impl::GemmPlan plan = impl::plan_gemm(s.m, s.n, s.k);
    CHECK(plan.rows <= impl::kTileRows);
    CHECK(plan.cols <= impl::tile_cols(impl::kTileRows));
    CHECK((plan.row_tiles - 1) * plan.rows < s.m);
    CHECK(plan.row_tiles * plan.rows >= s.m);
    CHECK((plan.col_tiles - 1) * plan.cols < s.n);
    CHECK(plan.col_tiles * plan.cols >= s.n);
    CHECK((plan.slices - 1) * plan.depth < s.k);
    CHECK(plan.slices * plan.depth >= s.k);
  }
  CHECK(impl::plan_gemm(175, 200, 33278).slices == 16);
  CHECK(impl::plan_gemm(700, 33278, 200).slices == 1);
  CHECK(impl::plan_gemm(33278, 200, 700).slices == 1);
}

TEST_CASE("gemm's tiles are the same under the serial and the TBB policy") {
  for (const Shape shape : kTiledShapes) {
    if (shape.m * shape.n * shape.k > 20'000'000) continue;
    const Product p{shape, Transpose::no, Transpose::yes, 0.5f, 1.0f};
    Operands serial(p), parallel(p);
    impl::gemm(SerialPolicy{}, test::cpu_exec(), plain_product, p.transpose_a, p.transpose_b,
               p.alpha, serial.a.view, serial.b.view, p.beta, serial.c.view);
    impl::gemm(TbbPolicy{}, test::cpu_exec(), plain_product, p.transpose_a, p.transpose_b, p.alpha,
               parallel.a.view, parallel.b.view, p.beta, parallel.c.view);
    CHECK(same_bits(serial.c, parallel.c));
  }
}

TEST_CASE("gemm gives the same bits with one thread and with two") {
  for (const Shape shape : kTiledShapes) {
    for (const Transpose ta : {Transpose::no, Transpose::yes}) {
      for (const Transpose tb : {Transpose::no, Transpose::yes}) {
        const Product p{shape, ta, tb, 1.0f, 1.0f};
        Operands one(p), two(p);
        const auto run = [&](Operands& operands, size_t threads) {
          const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
          gemm(test::cpu_exec(), ta, tb, p.alpha, operands.a.view, operands.b.view, p.beta,
               operands.c.view);
        };
        run(one, 1);
        run(two, 2);
        CHECK(same_bits(one.c, two.c));
      }
    }
  }
}

TEST_CASE("gemm leaves the caller's OpenMP thread count as it was") {
  const auto get = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
  const auto set = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
  if (get == nullptr || set == nullptr) return;
  const int before = get();
  set(3);
  const Product p{{20, 800, 200}, Transpose::no, Transpose::yes, 1.0f, 0.0f};
  Operands operands(p);
  gemm(test::cpu_exec(), p.transpose_a, p.transpose_b, p.alpha, operands.a.view, operands.b.view,
       p.beta, operands.c.view);
  CHECK(get() == 3);
  set(before);
}

TEST_CASE("gemm accepts any stride of a single row") {
  std::vector<float> a = {1, 2, 3}, b = {4, 5, 6};
  float c = 0;
  gemm(test::cpu_exec(), Transpose::no, Transpose::yes, 1.0f, {a.data(), 1, 3, 0},
       {b.data(), 1, 3, 0}, 0.0f, {&c, 1, 1, 0});
  CHECK(c == 32.0f);
}

TEST_CASE("gemm takes the scratch memory that it is said to take") {
  class Counted final : public Scratch {
   public:
    void* take(size_t bytes, ScratchKind kind, const char* name) override {
      taken += static_cast<int64_t>(bytes);
      return heap_.take(bytes, kind, name);
    }
    void give_back(void* pointer) noexcept override { heap_.give_back(pointer); }
    int64_t taken = 0;

   private:
    test::HeapScratch heap_;
  };
  for (const Shape shape : {Shape{20, 30, 40}, Shape{16, 64, 9000}, Shape{300, 128, 4096},
                            Shape{0, 3, 4}, Shape{3, 4, 0}}) {
    const Product p{shape, Transpose::no, Transpose::yes, 1.0f, 0.0f};
    Operands operands(p);
    Counted scratch;
    gemm({DeviceKind::cpu, nullptr, &scratch}, p.transpose_a, p.transpose_b, p.alpha,
         operands.a.view, operands.b.view, p.beta, operands.c.view);
    CHECK(scratch.taken == gemm_scratch_bytes(shape.m, shape.n, shape.k));
    CHECK((scratch.taken > 0) == (shape.k > 1000));
  }
}

TEST_CASE("gemm refuses shapes that do not fit") {
  std::vector<float> values(64);
  const auto matrix = [&](int64_t rows, int64_t cols) {
    return contiguous(values.data(), rows, cols);
  };
  const auto run = [&](Matrix a, Matrix b, Matrix c) {
    gemm(test::cpu_exec(), Transpose::no, Transpose::no, 1.0f, a, b, 0.0f, c);
  };
  CHECK_THROWS_WITH_AS(run(matrix(2, 3), matrix(4, 5), matrix(2, 5)),
                       "[gemm] op(a) [2, 3] times op(b) [4, 5] does not give c [2, 5]",
                       InvalidArgument);
  CHECK_THROWS_AS(run(matrix(2, 3), matrix(3, 5), matrix(2, 4)), InvalidArgument);
  CHECK_THROWS_AS(run(matrix(2, 3), matrix(3, 5), matrix(3, 5)), InvalidArgument);
  CHECK_THROWS_AS(run({nullptr, 2, 3, 3}, matrix(3, 5), matrix(2, 5)), InvalidArgument);
  CHECK_THROWS_AS(run({values.data(), 2, 3, 2}, matrix(3, 5), matrix(2, 5)), InvalidArgument);
}
