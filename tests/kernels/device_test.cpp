#include "sketchgrad/kernels/device.h"

#include <doctest/doctest.h>

#include <string>

#include "sketchgrad/kernels/error.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

TEST_CASE("device: what keeps a build from running on a GPU") {
  CHECK(cuda::device_problem(13000, 13000, 1).empty());
  CHECK(cuda::device_problem(13000, 13010, 4).empty());
  CHECK(cuda::device_problem(0, 13000, 0) == "[cuda] this machine has no NVIDIA driver; use cpu");
  CHECK(cuda::device_problem(12020, 13010, 0) ==
        "[cuda] the NVIDIA driver is for CUDA 12.2, too old for this build with 13.1; "
        "update it or use cpu");
  const std::string no_gpu =
      "[cuda] the NVIDIA driver shows no GPU; see CUDA_VISIBLE_DEVICES, or use cpu";
  CHECK(cuda::device_problem(13000, 13000, 0) == no_gpu);
  CHECK(cuda::device_problem(13000, 13010, 0) == no_gpu);
}

TEST_CASE("device: the stream asks for a device first") {
  std::string problem;
  try {
    cuda::require_device();
  } catch (const Error& error) {
    problem = error.what();
  }
  if (problem.empty()) {
    CHECK(cuda::stream() != nullptr);
    CHECK(cuda::stream() == cuda::stream());
  } else {
    CHECK_THROWS_WITH_AS(cuda::stream(), problem.c_str(), Error);
  }
}
