#include "sketchgrad/framework/tensor.h"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace sketchgrad {
namespace {

const Purpose kTest{Category::data, "test"};

Tensor counting(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::from(values, shape, kTest);
}

TEST_CASE("shapes") {
  CHECK(to_string(Shape{35, 20, 200}) == "[35, 20, 200]");
  CHECK(to_string(Shape{}) == "[]");
  CHECK(element_count({}) == 1);
  CHECK(element_count({3, 0, 5}) == 0);
  CHECK(element_count({3, 4, 5}) == 60);
  CHECK_THROWS_AS(element_count({3, -1}), InvalidArgument);
  CHECK_THROWS_AS(element_count({int64_t{1} << 31, int64_t{1} << 31}), InvalidArgument);
  CHECK_THROWS_AS(element_count({std::numeric_limits<int64_t>::max()}), InvalidArgument);
  CHECK_THROWS_AS(element_count({0, std::numeric_limits<int64_t>::max()}), InvalidArgument);
}

TEST_CASE("types") {
  CHECK(size_of(DType::float32) == 4);
  CHECK(size_of(DType::int64) == 8);
  CHECK(to_string(DType::int32) == "int32");
  const Tensor ids = Tensor::from<int32_t>({1, 2}, {2}, kTest);
  CHECK(ids.dtype() == DType::int32);
  CHECK(ids.bytes() == 8);
  CHECK_THROWS_WITH_AS(ids.data<float>(), "[tensor] int32 data read as float32", InvalidArgument);
  CHECK_THROWS_AS(ids.matrix(), InvalidArgument);
  CHECK_THROWS_AS(ids.fill(1.0f), InvalidArgument);
  CHECK_THROWS_AS(ids.to_vector<int64_t>(), InvalidArgument);
  CHECK(Tensor::from<int64_t>({1, 2, 3}, {3}, kTest).bytes() == 24);
}

TEST_CASE("making tensors") {
  CHECK(Tensor::zeros({3}, kTest).to_vector<float>() == std::vector<float>{0, 0, 0});
  CHECK(Tensor::zeros({2}, kTest, DType::int64).to_vector<int64_t>() == std::vector<int64_t>{0, 0});
  CHECK(Tensor::full({2}, 1.5f, kTest).to_vector<float>() == std::vector<float>{1.5f, 1.5f});
  CHECK(Tensor::full({}, 2.0f, kTest).item() == 2.0f);
  CHECK_THROWS_AS(Tensor::from<float>({1, 2, 3}, {2}, kTest), InvalidArgument);
}

TEST_CASE("memory is counted under the purpose and given back with the last reference") {
  const MemoryFigures before = allocator().current();
  {
    const Tensor tensor = Tensor::zeros({10}, {Category::gradient, "g"});
    const Tensor copy = tensor;
    const Tensor view = tensor.rows(2, 3).reshape({3, 1});
    CHECK(allocator().current()[Category::gradient] - before[Category::gradient] == 40);
  }
  CHECK(allocator().current().total == before.total);
  Tensor view;
  {
    const Tensor tensor = counting({10});
    view = tensor.rows(9, 1);
  }
  CHECK(allocator().current().total - before.total == 40);
  CHECK(view.item() == 9.0f);
}

TEST_CASE("tensors without elements") {
  const Tensor empty = Tensor::zeros({0, 7}, kTest);
  CHECK(empty.defined());
  CHECK(empty.numel() == 0);
  CHECK(empty.raw() == nullptr);
  CHECK(empty.matrix().rows == 0);
  CHECK(empty.matrix().cols == 7);
  CHECK(empty.to_vector<float>().empty());
  CHECK(empty.clone(kTest).shape() == Shape{0, 7});
  CHECK(empty.rows(0, 0).numel() == 0);
  CHECK(empty.reshape({7, 0}).shape() == Shape{7, 0});
  CHECK_THROWS_AS(empty.reshape({-1, 0}), InvalidArgument);
  empty.fill(1.0f);
}

TEST_CASE("undefined tensors say so") {
  const Tensor tensor;
  CHECK_FALSE(tensor.defined());
  CHECK(tensor.numel() == 0);
  CHECK_FALSE(tensor.unique());
  CHECK_THROWS_AS(tensor.raw(), InvalidArgument);
  CHECK_THROWS_AS(tensor.device(), InvalidArgument);
  CHECK_THROWS_AS(tensor.reshape({0}), InvalidArgument);
  CHECK_THROWS_AS(tensor.rows(0, 0), InvalidArgument);
  CHECK_THROWS_AS(tensor.copy_from(tensor), InvalidArgument);
}

TEST_CASE("axes") {
  const Tensor tensor = counting({2, 3, 4});
  CHECK(tensor.dim() == 3);
  CHECK(tensor.size(0) == 2);
  CHECK(tensor.size(-1) == 4);
  CHECK(tensor.size(-3) == 2);
  CHECK_THROWS_AS(tensor.size(3), InvalidArgument);
  CHECK_THROWS_AS(tensor.size(-4), InvalidArgument);
  CHECK(tensor.matrix().rows == 6);
  CHECK(tensor.matrix().cols == 4);
  CHECK(tensor.matrix()(5, 3) == 23.0f);
  CHECK(counting({5}).matrix().rows == 1);
  CHECK(counting({}).matrix().cols == 1);
}

TEST_CASE("reshape shares storage") {
  const Tensor tensor = counting({2, 6});
  const Tensor view = tensor.reshape({3, -1});
  CHECK(view.shape() == Shape{3, 4});
  view.data<float>()[11] = -1.0f;
  CHECK(tensor.data<float>()[11] == -1.0f);
  CHECK(tensor.reshape({12}).dim() == 1);
  CHECK_THROWS_AS(tensor.reshape({5, -1}), InvalidArgument);
  CHECK_THROWS_AS(tensor.reshape({-1, -1}), InvalidArgument);
  CHECK_THROWS_AS(tensor.reshape({13}), InvalidArgument);
  CHECK_THROWS_AS(tensor.reshape({-2, 6}), InvalidArgument);
}

TEST_CASE("rows share storage") {
  const Tensor tensor = counting({4, 3});
  const Tensor view = tensor.rows(1, 2);
  CHECK(view.shape() == Shape{2, 3});
  CHECK(view.to_vector<float>() == std::vector<float>{3, 4, 5, 6, 7, 8});
  CHECK(view.rows(1, 1).to_vector<float>() == std::vector<float>{6, 7, 8});
  view.fill(0.0f);
  CHECK(tensor.data<float>()[5] == 0.0f);
  CHECK(tensor.data<float>()[9] == 9.0f);
  CHECK(tensor.rows(4, 0).numel() == 0);
  CHECK_THROWS_AS(tensor.rows(3, 2), InvalidArgument);
  CHECK_THROWS_AS(tensor.rows(-1, 1), InvalidArgument);
  CHECK_THROWS_AS(tensor.rows(1, std::numeric_limits<int64_t>::max()), InvalidArgument);
  CHECK_THROWS_AS(counting({}).rows(0, 1), InvalidArgument);
  CHECK(Tensor::from<int64_t>({1, 2, 3}, {3}, kTest).rows(1, 2).to_vector<int64_t>() ==
        std::vector<int64_t>{2, 3});
}

TEST_CASE("copies") {
  const Tensor tensor = counting({2, 3});
  const Tensor copy = tensor.clone(kTest);
  copy.fill(7.0f);
  CHECK(tensor.data<float>()[0] == 0.0f);
  copy.copy_from(tensor);
  CHECK(copy.to_vector<float>() == tensor.to_vector<float>());
  copy.copy_from(copy);
  CHECK_THROWS_AS(copy.copy_from(counting({3, 2})), InvalidArgument);
  CHECK_THROWS_AS(copy.copy_from(Tensor::zeros({2, 3}, kTest, DType::int32)), InvalidArgument);
  const Tensor ids = Tensor::from<int32_t>({4, 5}, {2}, kTest);
  CHECK(ids.clone(kTest).to_vector<int32_t>() == std::vector<int32_t>{4, 5});
}

TEST_CASE("large copies and zeros reach every byte") {
  const int64_t count = 100'003;
  const Tensor ids = Tensor::empty({count}, kTest, DType::int64);
  for (int64_t i = 0; i < count; ++i) ids.data<int64_t>()[i] = i << 20;
  CHECK(ids.clone(kTest).to_vector<int64_t>() == ids.to_vector<int64_t>());
  const Tensor values = counting({count});
  CHECK(values.clone(kTest).to_vector<float>() == values.to_vector<float>());
  CHECK(Tensor::zeros({count}, kTest).to_vector<float>() ==
        std::vector<float>(static_cast<size_t>(count)));
  CHECK(Tensor::zeros({count}, kTest, DType::int64).to_vector<int64_t>() ==
        std::vector<int64_t>(static_cast<size_t>(count)));
}

TEST_CASE("copies without elements") {
  const Tensor empty = Tensor::zeros({0, 3}, kTest);
  empty.copy_from(Tensor::from<float>({}, {0, 3}, kTest));
  CHECK(empty.to_vector<float>().empty());
  CHECK(empty.clone(kTest).shape() == Shape{0, 3});
}

TEST_CASE("a tensor that is there already is not copied") {
  const Tensor tensor = counting({2, 3});
  const Tensor same = tensor.to(kCpu, {Category::workspace, "copy"});
  CHECK(same.raw() == tensor.raw());
  CHECK_FALSE(tensor.unique());
  CHECK_THROWS_AS(Tensor().to(kCpu, kTest), InvalidArgument);
}

TEST_CASE("item wants one element") {
  CHECK(counting({1, 1}).item() == 0.0f);
  CHECK_THROWS_AS(counting({2}).item(), InvalidArgument);
  CHECK_THROWS_AS(Tensor().item(), InvalidArgument);
}

TEST_CASE("unique counts every sharer") {
  Tensor tensor = counting({4});
  CHECK(tensor.unique());
  {
    const Tensor view = tensor.rows(0, 1);
    CHECK_FALSE(tensor.unique());
    CHECK_FALSE(view.unique());
  }
  CHECK(tensor.unique());
  const Tensor moved = std::move(tensor);
  CHECK(moved.unique());
}

}  // namespace
}  // namespace sketchgrad
