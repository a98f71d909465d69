#include "sketchgrad/framework/memory_trace.h"

#include <doctest/doctest.h>

#include <vector>

#include "sketchgrad/framework/memory.h"
#include "sketchgrad/framework/ops.h"
#include "sketchgrad/framework/row_sparse.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/tests/support/memory_log.h"

using namespace sketchgrad;

namespace {

constexpr Purpose kPurpose{Category::activation, "x"};

// A forward and a backward pass, large enough for kernels to split their work.
void step(Parameter& weight, Parameter& bias, const Tensor& x) {
  Tape tape;
  const Variable w = tape.leaf(weight), b = tape.leaf(bias);
  const Variable hidden = tanh(tape, linear(tape, Tape::constant(x), w, &b));
  tape.backward(mean(tape, multiply(tape, hidden, hidden)));
  weight.gradient.clear();
  bias.gradient.clear();
}

std::vector<int64_t> changes(const test::MemoryLog& log) {
  std::vector<int64_t> result;
  for (const test::LoggedEvent& event : log.events()) result.push_back(event.change);
  return result;
}

}  // namespace

TEST_CASE("memory trace: the same allocations in the same order, and no numbers") {
  Parameter weight("weight", {70, 90}), bias("bias", {70});
  weight.value.fill(0.01f);
  bias.value.fill(0.5f);
  const Tensor x = Tensor::full({400, 90}, 1.0f, kPurpose);
  std::vector<int64_t> in_earnest;
  {
    const test::MemoryLog log(allocator());
    step(weight, bias, x);
    in_earnest = changes(log);
  }
  {
    const MemoryTrace trace;
    const test::MemoryLog log(allocator());
    step(weight, bias, x);
    CHECK(changes(log) == in_earnest);
    weight.value.fill(7.0f);
  }
}

TEST_CASE("memory trace: numbers are left alone and read as 0, integers are computed") {
  const Tensor number = Tensor::full({1}, 3.0f, kPurpose);
  {
    const MemoryTrace trace;
    number.fill(7.0f);
    CHECK(number.item() == 0.0f);
    CHECK(number.to_vector<float>() == std::vector<float>{0.0f});
    const Tensor zeros = Tensor::zeros({5}, kPurpose, DType::int32);
    CHECK(zeros.to_vector<int32_t>() == std::vector<int32_t>(5));
    RowSparse part;
    part.table_rows = 10;
    part.ids = Tensor::from(std::vector<int32_t>{7, 3, 7, 3, 9}, {5}, kPurpose);
    part.values = Tensor::empty({5, 2}, kPurpose);
    CHECK(coalesce({part}).ids.to_vector<int32_t>() == std::vector<int32_t>{3, 7, 9});
    part.ids = Tensor::from(std::vector<int32_t>{7, 3, 7, 30, 9}, {5}, kPurpose);
    CHECK_THROWS_AS(coalesce({part}), InvalidArgument);
  }
  CHECK(number.item() == 3.0f);
}

TEST_CASE("memory trace: arrays larger than the machine, and what is refused") {
  allocator().set_limit(int64_t{1} << 40);
  {
    const MemoryTrace trace;
    CHECK(MemoryTrace::active());
    CHECK(allocator().limit() == 0);
    const Tensor large = Tensor::zeros({int64_t{1} << 37}, kPurpose);
    CHECK(allocator().current().total >= int64_t{1} << 39);
    CHECK_THROWS_AS(MemoryTrace(), InvalidArgument);
    CHECK(MemoryTrace::active());
  }
  CHECK_FALSE(MemoryTrace::active());
  CHECK(allocator().limit() == int64_t{1} << 40);
  allocator().set_limit(0);
}
