#include "sketchgrad/framework/tensor.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/error.h"

namespace sketchgrad {
namespace {

const Purpose kTest{Category::data, "test"};
constexpr int64_t kMiB = int64_t{1} << 20;

std::vector<int32_t> counting(int64_t count, int32_t first) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST_CASE("the device has a name and memory") {
  CHECK(parse_device("cuda") == kCuda);
  CHECK_FALSE(kernels::cuda::device_name().empty());
  const kernels::cuda::DeviceMemory memory = kernels::cuda::device_memory();
  CHECK(memory.free > 0);
  CHECK(memory.free <= memory.total);
}

TEST_CASE("values come back as they were, at sizes around a staging slot and the whole ring") {
  const int64_t slot = kMiB / 4;
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{1000}, slot - 1, slot, slot + 1,
                              16 * slot, 40 * slot + 7}) {
    CAPTURE(count);
    const std::vector<int32_t> values = counting(count, 5);
    const Tensor there = Tensor::from(values, {count}, kTest, kCuda);
    CHECK(there.device() == kCuda);
    CHECK(there.to_vector<int32_t>() == values);
    const Tensor copy = there.clone(kTest);
    CHECK(copy.device() == kCuda);
    CHECK(copy.to(kCpu, kTest).to_vector<int32_t>() == values);
    CHECK(there.to(kCuda, kTest).raw() == there.raw());
  }
}

TEST_CASE("many small copies in a row each keep their values") {
  std::vector<Tensor> there;
  std::vector<int32_t> values;
  for (int32_t i = 0; i < 200; ++i) {
    values = counting(700, i);
    there.push_back(Tensor::from(values, {700}, kTest, kCuda));
    std::fill(values.begin(), values.end(), -1);
  }
  for (int32_t i = 0; i < 200; ++i) {
    CHECK(there[static_cast<size_t>(i)].to_vector<int32_t>() == counting(700, i));
  }
}

TEST_CASE("a block that is released while queued work uses it may be handed out at once") {
  const int64_t count = 16 * kMiB;
  const Tensor last = Tensor::zeros({count}, kTest, DType::float32, kCuda);
  for (int i = 0; i < 20; ++i) {
    const Tensor work = Tensor::full({count}, static_cast<float>(i), kTest, kCuda);
    last.copy_from(work);
  }
  const Tensor other = Tensor::full({count}, -1.0f, kTest, kCuda);
  CHECK(last.rows(count - 1, 1).item() == 19.0f);
  CHECK(other.rows(0, 1).item() == -1.0f);
}

TEST_CASE("zeros, fill, item and copies between views") {
  const Tensor zeros = Tensor::zeros({3, 2}, kTest, DType::float32, kCuda);
  CHECK(zeros.to_vector<float>() == std::vector<float>(6));
  zeros.rows(1, 1).fill(2.5f);
  CHECK(zeros.to_vector<float>() == std::vector<float>{0, 0, 2.5f, 2.5f, 0, 0});
  CHECK(zeros.reshape({6}).rows(3, 1).item() == 2.5f);
  zeros.rows(2, 1).copy_from(Tensor::from<float>({7, 8}, {1, 2}, kTest));
  zeros.rows(0, 1).copy_from(zeros.rows(2, 1));
  CHECK(zeros.to_vector<float>() == std::vector<float>{7, 8, 2.5f, 2.5f, 7, 8});
  CHECK(Tensor::zeros({2}, kTest, DType::int64, kCuda).to_vector<int64_t>() ==
        std::vector<int64_t>{0, 0});
}

TEST_CASE("blocks are aligned and counted") {
  Allocator& memory = allocator(kCuda);
  const int64_t before = memory.current()[Category::workspace];
  void* const block = memory.allocate(1000, Category::workspace, "block");
  CHECK(reinterpret_cast<uintptr_t>(block) % 256 == 0);
  CHECK(memory.current()[Category::workspace] == before + 1000);
  CHECK(memory.report().find("CUDA context and libraries: ") != std::string::npos);
  memory.release(block);
  CHECK_NOTHROW(memory.release_cached());
}

TEST_CASE("too much is out of memory, and what follows works") {
  const int64_t total = kernels::cuda::device_memory().total;
  try {
    Tensor::empty({total / 2}, kTest, DType::float32, kCuda);
    FAIL("must not fit");
  } catch (const OutOfMemory& error) {
    CHECK(std::string(error.what()).find("device: ") != std::string::npos);
  }
  CHECK(Tensor::full({}, 3.0f, kTest, kCuda).item() == 3.0f);
}

TEST_CASE("tensors on the device are saved and loaded") {
  const std::string path = std::filesystem::temp_directory_path() /
                           ("sketchgrad_gpu_tensor_" + std::to_string(::getpid()));
  StateDict state;
  state.tensors.emplace("ids", Tensor::from(counting(1000, 3), {1000}, kTest, kCuda));
  save_safetensors(path, state);
  const Tensor target = Tensor::zeros({1000}, kTest, DType::int32, kCuda);
  load_safetensors(path).copy_to("ids", target);
  std::filesystem::remove(path);
  CHECK(target.to_vector<int32_t>() == counting(1000, 3));
}

}  // namespace
}  // namespace sketchgrad
