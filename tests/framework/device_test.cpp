#include "sketchgrad/framework/device.h"

#include <doctest/doctest.h>

#include <string>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/framework/tensor.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad {
namespace {

// Why there is no CUDA here; empty where there is.
std::string cuda_problem() {
  try {
    parse_device("cuda");
  } catch (const CudaError& error) {
    return error.what();
  } catch (const NotCompiled& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("a device that cannot be used is refused with one line that says what is missing") {
  const std::string problem = cuda_problem();
  if (problem.empty()) return;
  CAPTURE(problem);
  CHECK(problem.find('\n') == std::string::npos);
  const bool names_it = problem.find("driver") != std::string::npos ||
                        problem.find("GPU") != std::string::npos ||
                        problem.find("built without CUDA") != std::string::npos;
  CHECK(names_it);
}

TEST_CASE("whatever would use such a device is refused alike") {
  const std::string problem = cuda_problem();
  if (problem.empty()) return;
  const char* const message = problem.c_str();
  const Purpose purpose{Category::data, "test"};
  const Tensor tensor = Tensor::full({3}, 1.0f, purpose);
  CHECK_THROWS_WITH_AS(allocator(kCuda), message, Error);
  CHECK_THROWS_WITH_AS(exec_on(kCuda), message, Error);
  CHECK_THROWS_WITH_AS(synchronize(kCuda), message, Error);
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, purpose, DType::float32, kCuda), message, Error);
  CHECK_THROWS_WITH_AS(Tensor::from<float>({1, 2}, {2}, purpose, kCuda), message, Error);
  CHECK_THROWS_WITH_AS(tensor.to(kCuda, purpose), message, Error);
  CHECK(tensor.unique());
}

TEST_CASE("there is nothing to wait for on the CPU") { CHECK_NOTHROW(synchronize(kCpu)); }

}  // namespace
}  // namespace sketchgrad
