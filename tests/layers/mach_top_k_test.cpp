#include "sketchgrad/layers/mach_top_k.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "sketchgrad/layers/mach_filter.h"
#include "sketchgrad/tests/layers/mach_testing.h"

namespace sketchgrad {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_all(const MachMap& map, const std::vector<Tensor>& meta, int64_t k) {
  for (const MachAggregation aggregation : test::kAggregations) {
    if (map.buckets() == 1 && aggregation == MachAggregation::unbiased) continue;
    CAPTURE(static_cast<int>(aggregation));
    const TopK top = mach_top_k(map, meta, k, aggregation);
    CHECK(top.ids.shape() == Shape{meta[0].size(0), k});
    for (int64_t q = 0; q < meta[0].size(0); ++q) {
      CAPTURE(q);
      CHECK((test::ranking_of(top, q) == test::rank_all(map, meta, q, k, aggregation)));
    }
  }
}

// All values of all tensors.
template <class F>
void change(const std::vector<Tensor>& meta, const F& f) {
  for (const Tensor& tensor : meta) {
    for (int64_t i = 0; i < tensor.numel(); ++i) f(tensor.data<float>()[i], i);
  }
}

TEST_CASE("mach top k: as by a loop over everything") {
  struct Size {
    int64_t classes, buckets;
    int places;
    int64_t queries, k;
  };
  for (const Size& size :
       {Size{1, 1, 1, 1, 1}, Size{5, 3, 2, 3, 5}, Size{1003, 1, 2, 2, 7}, Size{4097, 67, 1, 1, 1},
        Size{50021, 211, 3, 1, 10}, Size{50021, 211, 4, 5, 10}, Size{9001, 100, 5, 17, 100},
        Size{6001, 130, 2, 66, 3}, Size{9000, 64, 40, 2, 5}, Size{6000, 33, 256, 2, 4}}) {
    CAPTURE(size.classes);
    CAPTURE(size.queries);
    for (const bool stored : {true, false}) {
      const MachMap map("m", test::first_repetitions(size.places),
                        {.classes = size.classes, .buckets = size.buckets, .stored = stored});
      check_all(map, test::peaked_meta(map, size.queries, 5, 1.0f, 3), size.k);
    }
  }
}

TEST_CASE("mach top k: whatever the numbers look like") {
  const MachMap map("m", {0, 1, 2, 3}, {.classes = 30011, .buckets = 150});
  const auto meta = [&] { return test::peaked_meta(map, 3, 4, 1.0f, 5); };
  const auto changed = [&](const auto& f) {
    const std::vector<Tensor> result = meta();
    change(result, f);
    check_all(map, result, 20);
  };
  // Nearly all zero, all the same, of few values, all of the same sign but far from zero,
  // logits, tiny and huge.
  changed([](float& value, int64_t) { value = value > 0.05f ? value : 0.0f; });
  changed([](float& value, int64_t) { value = 0.0f; });
  changed([](float& value, int64_t) { value = 0.7f; });
  changed([](float& value, int64_t) { value = -0.7f; });
  changed([](float& value, int64_t) { value = value > 0.005f ? 0.3f : 0.1f; });
  changed([](float& value, int64_t) { value = 0.5f + 1e-4f * value; });
  changed([](float& value, int64_t) { value -= 1000.0f; });
  changed([](float& value, int64_t) { value = std::log(value); });
  changed([](float& value, int64_t) { value *= 1e-36f; });
  changed([](float& value, int64_t) { value *= 1e-42f; });
  changed([](float& value, int64_t) { value *= 1e37f; });
}

TEST_CASE("mach top k: what is not a number is behind everything") {
  const MachMap map("m", {0, 1, 2}, {.classes = 20011, .buckets = 150});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto changed = [&](const auto& f) {
    const std::vector<Tensor> meta = test::peaked_meta(map, 3, 4, 1.0f, 5);
    change(meta, f);
    check_all(map, meta, 20);
  };
  changed([&](float& value, int64_t i) { value = i % 7 == 0 ? nan : value; });
  changed([&](float& value, int64_t) { value = nan; });
  changed([&](float& value, int64_t i) { value = i < 150 ? nan : value; });
  changed([&](float& value, int64_t i) { value = i % 11 == 0 ? kInfinity : value; });
  changed([&](float& value, int64_t i) { value = i % 11 == 0 ? -kInfinity : value; });
  changed([&](float& value, int64_t i) {
    value = i % 11 == 0 ? kInfinity : i % 11 == 3 ? -kInfinity : i % 11 == 5 ? nan : value;
  });
}

TEST_CASE("mach top k: equal scores are in order of id, also from one round to the next") {
  constexpr int64_t kClasses = 200003;
  const MachMap map("m", {0, 1}, {.classes = kClasses, .buckets = 2, .seed = 8});
  const std::vector<Tensor> meta(2, Tensor::from<float>({0.25f, 0.75f}, {1, 2}, test::kTestData));
  check_all(map, meta, 30000);
}

TEST_CASE("mach top k: the same bits for any number of threads") {
  const MachMap map("m", {0, 1, 2, 3}, {.classes = 150001, .buckets = 300});
  for (const int64_t queries : {1, 7, 70}) {
    const std::vector<Tensor> meta = test::peaked_meta(map, queries, 5, 1.0f, 9);
    for (const MachAggregation aggregation : test::kAggregations) {
      const auto run = [&](size_t threads) {
        const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
        return mach_top_k(map, meta, 50, aggregation);
      };
      const TopK one = run(1), many = run(5);
      CHECK(one.ids.to_vector<int32_t>() == many.ids.to_vector<int32_t>());
      CHECK(one.scores.to_vector<float>() == many.scores.to_vector<float>());
    }
  }
}

TEST_CASE("mach top k: its memory does not grow with the classes") {
  const auto peak = [](int64_t classes, int64_t queries) {
    const MachMap map("m", {0, 1, 2}, {.classes = classes, .buckets = 500, .stored = false});
    const std::vector<Tensor> meta = test::peaked_meta(map, queries, 5, 1.0f, 9);
    allocator(kCpu).reset_peak();
    const MemoryFigures before = allocator(kCpu).current();
    mach_top_k(map, meta, 10);
    CHECK(allocator(kCpu).current().total == before.total);
    return allocator(kCpu).peak().total - before.total;
  };
  // Result, table, lists, numbers of queries.
  const auto expected = [](int64_t queries, int64_t lanes) {
    const int64_t at_once = std::min<int64_t>(queries, 64);
    return 8 * 10 * queries + 3 * 500 * lanes + 8 * 10 * at_once + 4 * queries;
  };
  for (const int64_t classes : {100000, 400000}) {
    CHECK(peak(classes, 1) == expected(1, 1));
    CHECK(peak(classes, 9) == expected(9, 16));
    CHECK(peak(classes, 64) == expected(64, 64));
    CHECK(peak(classes, 130) == expected(130, 64));
  }
}

TEST_CASE("mach top k: no queries, and what does not fit") {
  const MachMap map("m", {0, 1}, {.classes = 9, .buckets = 4});
  const std::vector<Tensor> none(2, Tensor::empty({0, 4}, test::kTestData));
  CHECK(mach_top_k(map, none, 3).ids.shape() == Shape{0, 3});
  const std::vector<Tensor> meta(2, Tensor::zeros({2, 4}, test::kTestData));
  CHECK(test::contains(test::refusal([&] { mach_top_k(map, meta, 10); }),
                       "[mach_top_k] the best 10 of 9 classes"));
  CHECK(test::contains(test::refusal([&] { mach_top_k(map, meta, 0); }), "the best 0 of 9"));
  CHECK(mach_top_k(map, meta, 9).ids.rows(1, 1).to_vector<int32_t>() ==
        std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8});
}

// What the filter is for: of many classes few are left.
TEST_CASE("mach filter: nothing above the bound is left out, and most of the rest is") {
  const MachMap map("m", test::first_repetitions(6), {.classes = 60001, .buckets = 400});
  const std::vector<Tensor> meta = test::peaked_meta(map, 3, 5, 1.0f, 2);
  for (const MachAggregation aggregation : test::kAggregations) {
    CAPTURE(static_cast<int>(aggregation));
    const MachScorer scorer("test", map, meta, aggregation);
    const std::vector<int32_t> queries{2, 0};
    std::vector<float> bounds;
    for (const int32_t q : queries) {
      bounds.push_back(test::rank_all(map, meta, q, 50, aggregation).scores.back());
    }
    MachFilter filter(scorer, queries);
    filter.set_bounds(bounds.data());
    std::vector<std::vector<bool>> passed(2, std::vector<bool>(60001));
    int64_t count = 0;
    filter.pass({1000, 59001}, [&](const MachFilter::Candidate* candidates, int64_t size) {
      for (int64_t i = 0; i < size; ++i) {
        passed[static_cast<size_t>(candidates[i].lane)]
              [static_cast<size_t>(candidates[i].class_id)] = true;
      }
      count += size;
    });
    CHECK(count < 2000);
    for (size_t lane = 0; lane < 2; ++lane) {
      for (int64_t c = 1000; c < 60001; ++c) {
        if (scorer.score_of_class(queries[lane], c) > bounds[lane]) {
          CHECK(passed[lane][static_cast<size_t>(c)]);
        }
      }
    }
  }
}

TEST_CASE("mach scores: of given classes, by hand") {
  const MachMap map("m", {0, 1}, {.classes = 6, .buckets = 3});
  const std::vector<Tensor> meta{
      Tensor::from<float>({0.5f, 0.25f, 0.25f, 0, 0, 1}, {2, 3}, test::kTestData),
      Tensor::from<float>({0, 0.5f, 0.5f, 0.25f, 0.75f, 0}, {2, 3}, test::kTestData)};
  const std::vector<int32_t> ids{4, 0, 4, -1, 5, -1};
  const Tensor scores = mach_scores(map, meta, Tensor::from(ids, {2, 3}, test::kTestData));
  CHECK(scores.shape() == Shape{2, 3});
  for (int64_t i = 0; i < 6; ++i) {
    const int64_t id = ids[static_cast<size_t>(i)], row = i / 3 * 3;
    const float score = scores.data<float>()[i];
    if (id < 0) {
      CHECK(score == -kInfinity);
    } else {
      CHECK(score == 0.5f * (meta[0].data<float>()[row + map.bucket(0, id)] +
                             meta[1].data<float>()[row + map.bucket(1, id)]));
    }
  }
  const auto refused = [&](const std::vector<int32_t>& wrong, const Shape& shape) {
    return test::refusal(
        [&] { mach_scores(map, meta, Tensor::from(wrong, shape, test::kTestData)); });
  };
  CHECK(test::contains(refused({0, 1, 2, 6}, {2, 2}), "id 6 at position 3 is none of 6 classes"));
  CHECK(test::contains(refused({0, -2}, {2, 1}), "id -2 at position 1"));
  CHECK(test::contains(refused({0, 1, 2}, {3, 1}), "ids are [3, 1], they must be [2, n]"));
  CHECK(mach_scores(map, meta, Tensor::empty({2, 0}, test::kTestData, DType::int32)).numel() == 0);
}

}  // namespace
}  // namespace sketchgrad
