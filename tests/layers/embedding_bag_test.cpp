#include "sketchgrad/layers/embedding_bag.h"

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad::test {
namespace {

Tensor int_tensor(const std::vector<int32_t>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}, kTestData);
}

SparseRows sparse(const std::vector<int32_t>& begin, const std::vector<int32_t>& columns,
                  const std::vector<float>& values = {}) {
  return {int_tensor(begin), int_tensor(columns),
          values.empty() ? Tensor()
                         : Tensor::from(values, {static_cast<int64_t>(values.size())}, kTestData)};
}

// Bag b has b % 4 entries, some of one feature twice.
SparseRows random_bags(int64_t bags, int64_t features, bool weighted) {
  std::vector<int32_t> begin{0}, columns;
  for (int64_t b = 0; b < bags; ++b) {
    for (int64_t i = 0; i < b % 4; ++i) {
      columns.push_back(static_cast<int32_t>((3 * b + 5 * (i / 2)) % features));
    }
    begin.push_back(static_cast<int32_t>(columns.size()));
  }
  const auto entries = static_cast<int64_t>(columns.size());
  return sparse(begin, columns, weighted ? random_floats(entries, 7) : std::vector<float>{});
}

TEST_CASE("embedding bag: sums of rows, in double precision") {
  for (const int64_t dim : {1, 7, 33}) {
    for (const bool weighted : {false, true}) {
      CAPTURE(dim);
      CAPTURE(weighted);
      Rng rng(3);
      EmbeddingBag bag("bag", {.rows = 11, .dim = dim, .bias = true}, rng, kTestDevice);
      fill_normal(bag.bias()->value, 5);
      const SparseRows x = random_bags(9, 11, weighted);
      Tape tape;
      const std::vector<float> y = bag.forward(tape, x).value.to_vector<float>();
      const std::vector<float> table = bag.weight().value.to_vector<float>();
      const std::vector<float> bias = bag.bias()->value.to_vector<float>();
      const std::vector<int32_t> begin = x.begin.to_vector<int32_t>();
      const std::vector<int32_t> columns = x.columns.to_vector<int32_t>();
      const std::vector<float> values =
          weighted ? x.values.to_vector<float>() : std::vector<float>(columns.size(), 1.0f);
      std::vector<float> expected;
      for (size_t b = 0; b < 9; ++b) {
        for (size_t c = 0; c < static_cast<size_t>(dim); ++c) {
          double sum = bias[c];
          for (auto e = static_cast<size_t>(begin[b]); e < static_cast<size_t>(begin[b + 1]); ++e) {
            sum += double{values[e]} * double{table[static_cast<size_t>(columns[e] * dim) + c]};
          }
          expected.push_back(static_cast<float>(sum));
        }
      }
      CHECK(worst_difference(y, expected) < tolerance(1e-6));
    }
  }
}

TEST_CASE("embedding bag: gradients") {
  for (const int64_t dim : {1, 7}) {
    for (const bool weighted : {false, true}) {
      for (const int64_t bags : {0, 1, 9}) {
        CAPTURE(dim);
        CAPTURE(weighted);
        CAPTURE(bags);
        Rng rng(3);
        EmbeddingBag bag("bag", {.rows = 11, .dim = dim, .bias = true}, rng, kTestDevice);
        const SparseRows x = random_bags(bags, 11, weighted);
        const Tensor weights = random_normal({bags, dim}, 4);
        const GradCheckResult result = grad_check(
            [&](Tape& tape) { return weighted_sum(tape, bag.forward(tape, x), weights); },
            bag.parameters());
        CHECK_MESSAGE(result.passed, result.where);
      }
    }
  }
}

TEST_CASE("embedding bag: its gradient has a row for each feature of the batch") {
  Rng rng(3);
  constexpr int64_t kRows = 100000, kDim = 16, kBags = 200;
  EmbeddingBag bag("bag", {.rows = kRows, .dim = kDim}, rng, kTestDevice);
  // 50 entries a bag, 20 different features in all.
  std::vector<int32_t> begin{0}, columns;
  for (int32_t b = 0; b < kBags; ++b) {
    for (int32_t i = 0; i < 50; ++i) columns.push_back((b + i) % 20 * 977);
    begin.push_back(static_cast<int32_t>(columns.size()));
  }
  const SparseRows x = sparse(begin, columns);
  const Tensor weights = random_normal({kBags, kDim}, 4);
  Tape tape;
  const Variable loss = weighted_sum(tape, bag.forward(tape, x), weights);
  allocator(kTestDevice).reset_peak();
  const int64_t before = live_bytes(Category::gradient);
  tape.backward(loss);
  const RowSparse& gradient = bag.weight().gradient.rows();
  CHECK(gradient.coalesced);
  CHECK(gradient.values.shape() == Shape{20, kDim});
  CHECK(gradient.ids.to_vector<int32_t>().back() == 19 * 977);
  const auto floats = static_cast<int64_t>(sizeof(float));
  // That of the product with the weights, passed on, and the rows.
  CHECK(allocator(kTestDevice).peak()[Category::gradient] - before <=
        (2 * kBags * kDim + 20 * kDim) * floats);
  CHECK(live_bytes(Category::activation) == loss.value.bytes());
}

TEST_CASE("embedding bag: several of one input give what each alone does, from one transpose") {
  const SparseRows x = random_bags(9, 11, true);
  const Tensor weights = random_normal({9, 7}, 4);
  const auto make = [](uint64_t seed) {
    Rng rng(seed);
    return std::make_unique<EmbeddingBag>("bag", EmbeddingBagOptions{.rows = 11, .dim = 7}, rng,
                                          kTestDevice);
  };
  const BagInput input = make_bag_input("bags", x, 11, kTestDevice, /*with_gradient=*/true);
  for (const uint64_t seed : {1, 2}) {
    const auto shared = make(seed), alone = make(seed);
    Tape tape, other;
    const int64_t index = live_bytes(Category::index);
    const Variable y = shared->forward(tape, input);
    CHECK(live_bytes(Category::index) == index);
    const Variable z = alone->forward(other, x);
    CHECK(same_bits(y.value.to_vector<float>(), z.value.to_vector<float>()));
    other.backward(weighted_sum(other, z, weights));
    tape.backward(weighted_sum(tape, y, weights));
    CHECK(same_bits(full_gradient(shared->weight()), full_gradient(alone->weight())));
  }
  if (kTestDevice != kCpu) {
    // Copies have the input's name.
    std::set<std::string> names;
    for (const LiveBlock& block : allocator(kTestDevice).live_blocks()) names.insert(block.name);
    for (const char* what : {"begin", "columns", "values", "by_column.ids", "by_column.begin",
                             "by_column.columns", "by_column.values"}) {
      CAPTURE(what);
      CHECK(names.contains(std::string("bags.") + what));
    }
  }
  const BagInput forward_only = make_bag_input("bags", x, 11, kTestDevice, false);
  const auto bag = make(1);
  Tape silent(/*recording=*/false), recording;
  CHECK(bag->forward(silent, forward_only).value.shape() == Shape{9, 7});
  CHECK(contains(refusal([&] { bag->forward(recording, forward_only); }), "without its transpose"));
  CHECK(contains(
      refusal([&] { bag->forward(recording, make_bag_input("bags", x, 12, kTestDevice, true)); }),
      "12 columns"));
}

TEST_CASE("embedding bag: same bits for any number of threads") {
  const auto run = [] {
    Rng rng(3);
    EmbeddingBag bag("bag", {.rows = 50, .dim = 300, .bias = true}, rng, kTestDevice);
    const SparseRows x = random_bags(500, 50, true);
    Tape tape;
    const Variable y = bag.forward(tape, x);
    tape.backward(weighted_sum(tape, y, random_normal({500, 300}, 4)));
    std::vector<float> all = y.value.to_vector<float>();
    for (Parameter* parameter : bag.parameters()) {
      const std::vector<float> gradient = full_gradient(*parameter);
      all.insert(all.end(), gradient.begin(), gradient.end());
    }
    return all;
  };
  CHECK(same_bits(with_threads(1, run), with_threads(3, run)));
}

TEST_CASE("embedding bag: what does not fit is named") {
  Rng rng(3);
  EmbeddingBag bag("bag", {.rows = 4, .dim = 2}, rng, kTestDevice);
  const auto refused = [&](const SparseRows& x) {
    Tape tape;
    return refusal([&] { bag.forward(tape, x); });
  };
  CHECK(refused(sparse({0, 2}, {1, 4})) ==
        "[bag] column 4 at entry 1 is outside the 4 of a sparse matrix");
  CHECK(refused(sparse({0, 2}, {1, -1})) ==
        "[bag] column -1 at entry 1 is outside the 4 of a sparse matrix");
  CHECK(refused(sparse({0, 3}, {1, 2})) ==
        "[bag] the rows of a sparse matrix go from entry 0 to 3, they must go from 0 to 2");
  CHECK(refused(sparse({0, 2, 1, 2}, {1, 2})) ==
        "[bag] row 1 of a sparse matrix begins at entry 2, the row behind it at 1");
  CHECK(refused(sparse({0, 2}, {1, 2}, {1.0f})) ==
        "[bag] 1 values for 2 columns of a sparse matrix");
  CHECK(refused({}) == "[bag] rows and columns of a sparse matrix must be on the CPU");
  CHECK(refused(sparse({}, {})) == "[bag] the rows of a sparse matrix have no beginning");
  CHECK(contains(refusal([&] { EmbeddingBag("b", {.rows = 0, .dim = 2}, rng); }), "0 rows"));
}

}  // namespace
}  // namespace sketchgrad::test
