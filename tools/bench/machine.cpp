#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

constexpr int64_t kLargeFloats = int64_t{1} << 26;   // an array of 256 MiB
constexpr int64_t kCachedFloats = int64_t{1} << 16;  // 256 KiB a thread
constexpr int kCachedPasses = 64;

// f(begin, end) in a part a thread.
template <class F>
void in_parts(int threads, int64_t count, const F& f) {
  tbb::parallel_for(
      int64_t{0}, int64_t{threads},
      [&](int64_t part) { f(count * part / threads, count * (part + 1) / threads); },
      tbb::static_partitioner());
}

void copy_floats(const float* a, float* out, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = a[i];
}

void triad(const float* a, const float* b, float* out, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] + 3.0f * b[i];
}

void change_in_place(float* x, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) x[i] *= -1.0f;
}

std::vector<Case> bandwidth_cases(int threads, const Tensor& a, const Tensor& b, const Tensor& c) {
  const double bytes = static_cast<double>(kLargeFloats) * 4;
  float* const x = a.data<float>();
  float* const y = b.data<float>();
  float* const z = c.data<float>();
  const auto parts = [threads](auto f) { return [=] { in_parts(threads, kLargeFloats, f); }; };
  return {{"copy", {2 * bytes, 0, "read + write, 256 MiB each"}, parts([=](int64_t i, int64_t end) {
             copy_floats(x + i, z + i, end - i);
           })},
          {"triad",
           {3 * bytes, 0, "2 read + 1 write, 256 MiB each"},
           parts([=](int64_t i, int64_t end) { triad(x + i, y + i, z + i, end - i); })},
          {"change in place",
           {2 * bytes, 0, "read + write of the same 256 MiB"},
           parts([=](int64_t i, int64_t end) { change_in_place(x + i, end - i); })}};
}

Case cache_case(int threads, const Tensor& a) {
  float* const x = a.data<float>();
  return {"change in place, in cache",
          {2.0 * 4 * kCachedPasses * static_cast<double>(kCachedFloats) * threads, 0,
           "64 x read + write of 256 KiB a thread", true},
          [=] {
            in_parts(threads, kCachedFloats * threads, [=](int64_t i, int64_t end) {
              for (int pass = 0; pass < kCachedPasses; ++pass) change_in_place(x + i, end - i);
            });
          }};
}

// Enough independent multiply-adds in registers to fill every pipeline.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr int kChains = 12;
constexpr int64_t kMultiplyAdds = 1 << 15;

float multiply_adds() {
  Vector sums[kChains];
#pragma GCC unroll 12
  for (int k = 0; k < kChains; ++k) sums[k] = Vector{} + static_cast<float>(k);
  const Vector factor = Vector{} + 0.999f;
  const Vector term = Vector{} + 0.001f;
  for (int64_t i = 0; i < kMultiplyAdds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kChains; ++k) sums[k] = sums[k] * factor + term;
  }
  float total = 0.0f;
#pragma GCC unroll 12
  for (int k = 0; k < kChains; ++k) total += sums[k][0];
  return total;
}

Case flops_case(int threads) {
  const double flops =
      2.0 * kChains * (kVectorBytes / 4) * static_cast<double>(kMultiplyAdds) * threads;
  return {fmt::format("multiply-adds, {} thread{}", threads, threads > 1 ? "s" : ""),
          {0, flops, "independent chains in registers"},
          [threads] {
            tbb::parallel_for(
                0, threads,
                [](int) {
                  volatile float keep = multiply_adds();
                  static_cast<void>(keep);
                },
                tbb::static_partitioner());
          }};
}

Case best_gemm_case(const Tensor& a, const Tensor& b, const Tensor& c) {
  const double size = static_cast<double>(a.size(0));
  return {fmt::format("gemm {0} x {0} x {0}", a.size(0)),
          {3 * 4 * size * size, 2 * size * size * size, "2 m n k"},
          [=] {
            kernels::gemm(a.exec(), kernels::Transpose::no, kernels::Transpose::no, 1.0f,
                          a.matrix(), b.matrix(), 0.0f, c.matrix());
          }};
}

double rate(const Work& work, const Timing& timing) {
  return std::max(work.bytes, work.flops) / timing.best();
}

// The best of some cases becomes a peak before any line is printed.
double best_rate(const std::vector<Case>& cases, const std::vector<Timing>& timings) {
  double best = 0;
  for (size_t i = 0; i < cases.size(); ++i) best = std::max(best, rate(cases[i].work, timings[i]));
  return best;
}

void add_lines(const std::vector<Case>& cases, const std::vector<Timing>& timings, Report& report) {
  for (size_t i = 0; i < cases.size(); ++i) report.add(cases[i].name, cases[i].work, timings[i]);
}

}  // namespace

void run_cases(const std::vector<Case>& cases, const Options& options, Report& report) {
  add_lines(cases, measure(cases, options.seconds), report);
}

namespace {

// A GPU's peaks by the same operations, as our kernels and cuBLAS do them.
void run_gpu(const Options& options, Report& report) {
  constexpr int64_t kSize = 4096;
  const double bytes = static_cast<double>(kLargeFloats) * 4;
  const auto floats = [] { return random_tensor({kLargeFloats}, 1.0f); };
  const auto square = [] { return random_tensor({kSize, kSize}, 1.0f); };
  const Tensor a = floats(), b = floats();
  float* const x = a.data<float>();
  float* const y = b.data<float>();
  const kernels::Exec exec = a.exec();
  const std::vector<Case> large = {{"copy",
                                    {2 * bytes, 0, "read + write, 256 MiB each"},
                                    [=] { kernels::copy(exec, x, y, kLargeFloats); }},
                                   {"add scaled",
                                    {3 * bytes, 0, "2 read + 1 write, 256 MiB each"},
                                    [=] { kernels::add_scaled(exec, x, 1e-6f, y, kLargeFloats); }},
                                   {"change in place",
                                    {2 * bytes, 0, "read + write of the same 256 MiB"},
                                    [=] { kernels::scale(exec, x, -1.0f, x, kLargeFloats); }}};
  const std::vector<Case> product = {best_gemm_case(square(), square(), square())};
  const std::vector<Timing> large_timings = measure(large, options.seconds);
  const std::vector<Timing> product_timings = measure(product, options.seconds);
  Peaks peaks;
  peaks.memory_bandwidth = peaks.cache_bandwidth = best_rate(large, large_timings);
  peaks.flops = best_rate(product, product_timings);
  report.set_peaks(peaks);
  add_lines(large, large_timings, report);
  add_lines(product, product_timings, report);
}

void run_cpu(const Options& options, Report& report) {
  Peaks peaks;
  const auto floats = [](int64_t count) { return random_tensor({count}, 1.0f); };

  std::vector<Case> large;
  std::vector<Timing> large_timings;
  {
    const Tensor a = floats(kLargeFloats), b = floats(kLargeFloats), c = floats(kLargeFloats);
    large = bandwidth_cases(options.threads, a, b, c);
    large_timings = measure(large, options.seconds);
    peaks.memory_bandwidth = best_rate(large, large_timings);
  }
  const std::vector<Case> cached = {
      cache_case(options.threads, floats(kCachedFloats * options.threads))};
  const std::vector<Timing> cached_timings = measure(cached, options.seconds);
  peaks.cache_bandwidth = best_rate(cached, cached_timings);

  std::vector<Case> arithmetic;
  for (int threads = 1; threads < options.threads; threads *= 2) {
    arithmetic.push_back(flops_case(threads));
  }
  arithmetic.push_back(flops_case(options.threads));
  const std::vector<Timing> arithmetic_timings = measure(arithmetic, options.seconds);
  const auto square = [] { return random_tensor({2048, 2048}, 1.0f); };
  const std::vector<Case> product = {best_gemm_case(square(), square(), square())};
  const std::vector<Timing> product_timings = measure(product, options.seconds);
  peaks.flops = std::max(best_rate({arithmetic.back()}, {arithmetic_timings.back()}),
                         best_rate(product, product_timings));

  report.set_peaks(peaks);
  add_lines(large, large_timings, report);
  add_lines(cached, cached_timings, report);
  add_lines(arithmetic, arithmetic_timings, report);
  add_lines(product, product_timings, report);
}

}  // namespace

void run_machine(const Options& options, Report& report) {
  report.begin_group("machine", "peaks, from which the floors below are computed");
  if (device() == kCpu) {
    run_cpu(options, report);
  } else {
    run_gpu(options, report);
  }
  allocator(device()).release_cached();
}

}  // namespace sketchgrad::bench
