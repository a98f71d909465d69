#include "sketchgrad/layers/mach_index.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include "sketchgrad/tests/layers/mach_testing.h"

namespace sketchgrad {
namespace {

using test::kAggregations;

// The share of the true k best that is among those found.
double recall(const TopK& found, const TopK& exact) {
  int64_t hits = 0;
  const int64_t k = exact.ids.size(1);
  for (int64_t q = 0; q < exact.ids.size(0); ++q) {
    const std::vector<int32_t> ids = test::ranking_of(found, q).ids;
    for (const int32_t id : test::ranking_of(exact, q).ids) {
      hits += std::count(ids.begin(), ids.end(), id);
    }
  }
  return static_cast<double>(hits) / static_cast<double>(exact.ids.size(0) * k);
}

bool same(const TopK& a, const TopK& b) {
  return a.ids.to_vector<int32_t>() == b.ids.to_vector<int32_t>() &&
         a.scores.to_vector<float>() == b.scores.to_vector<float>();
}

TEST_CASE("mach index: a bucket's classes, increasing") {
  for (const bool stored : {true, false}) {
    const MachMap map("m", {4, 0, 2}, {.classes = 2503, .buckets = 31, .stored = stored});
    const MachIndex index("i", map);
    for (int64_t p = 0; p < 3; ++p) {
      std::vector<int> seen(2503);
      for (int64_t b = 0; b < 31; ++b) {
        const MachIndex::ClassList list = index.classes_of(p, b);
        CHECK(std::is_sorted(list.ids, list.ids + list.count));
        for (int64_t i = 0; i < list.count; ++i) {
          CHECK(map.bucket(p, list.ids[i]) == b);
          ++seen[static_cast<size_t>(list.ids[i])];
        }
      }
      CHECK(std::count(seen.begin(), seen.end(), 1) == 2503);
    }
  }
}

TEST_CASE("mach index: with all buckets, or as much as a proof takes, it is exact") {
  struct Size {
    int64_t classes, buckets;
    int places;
    int64_t queries, k;
  };
  for (const Size& size : {Size{1, 1, 1, 1, 1}, Size{7, 20, 2, 3, 7}, Size{3001, 40, 1, 2, 5},
                           Size{8009, 97, 4, 70, 20}}) {
    CAPTURE(size.classes);
    for (const bool stored : {true, false}) {
      const MachMap map("m", test::first_repetitions(size.places),
                        {.classes = size.classes, .buckets = size.buckets, .stored = stored});
      const MachIndex index("i", map);
      const std::vector<Tensor> meta = test::peaked_meta(map, size.queries, 3, 1.0f, 6);
      for (const MachAggregation aggregation : kAggregations) {
        if (map.buckets() == 1 && aggregation == MachAggregation::unbiased) continue;
        CAPTURE(static_cast<int>(aggregation));
        const TopK exact = mach_top_k(map, meta, size.k, aggregation);
        const MachIndex::Found found = index.top_k(meta, size.k, size.buckets, aggregation);
        CHECK(same(found.top, exact));
        const auto proven = found.proven.to_vector<int32_t>();
        CHECK(std::count(proven.begin(), proven.end(), 1) == size.queries);
        for (const int64_t best : {int64_t{1}, (size.buckets + 4) / 5}) {
          CHECK(same(index.exact_top_k(meta, size.k, best, aggregation), exact));
        }
      }
    }
  }
}

TEST_CASE("mach index: what it says to be proven is, and what it finds are the best it could") {
  const MachMap map("m", test::first_repetitions(4), {.classes = 20011, .buckets = 200});
  const MachIndex index("i", map);
  const std::vector<Tensor> meta = test::peaked_meta(map, 30, 4, 1.0f, 6);
  constexpr int64_t kBest = 5, kWanted = 10;
  int64_t proofs = 0;
  for (const MachAggregation aggregation : kAggregations) {
    CAPTURE(static_cast<int>(aggregation));
    const TopK exact = mach_top_k(map, meta, kWanted, aggregation);
    const MachIndex::Found found = index.top_k(meta, kWanted, kBest, aggregation);
    for (int64_t q = 0; q < 30; ++q) {
      if (found.proven.data<int32_t>()[q] != 0) {
        ++proofs;
        CHECK((test::ranking_of(found.top, q) == test::ranking_of(exact, q)));
        continue;
      }
      // By a loop over all classes: those that one of the best buckets holds.
      std::vector<std::vector<bool>> best(4, std::vector<bool>(200));
      for (size_t p = 0; p < 4; ++p) {
        std::vector<int> order(200);
        std::iota(order.begin(), order.end(), 0);
        const float* const values = meta[p].data<float>() + q * 200;
        std::stable_sort(order.begin(), order.end(),
                         [&](int a, int b) { return values[a] > values[b]; });
        for (size_t i = 0; i < kBest; ++i) best[p][static_cast<size_t>(order[i])] = true;
      }
      const test::Ranking all = test::rank_all(map, meta, q, map.classes(), aggregation);
      test::Ranking expected;
      for (size_t i = 0; i < all.ids.size() && expected.ids.size() < kWanted; ++i) {
        bool reached = false;
        for (size_t p = 0; p < 4; ++p) {
          reached = reached ||
                    best[p][static_cast<size_t>(map.bucket(static_cast<int64_t>(p), all.ids[i]))];
        }
        if (!reached) continue;
        expected.ids.push_back(all.ids[i]);
        expected.scores.push_back(all.scores[i]);
      }
      CHECK((test::ranking_of(found.top, q) == expected));
    }
  }
  CHECK(proofs > 30);
  CHECK(proofs < 120);
}

TEST_CASE("mach index: more buckets find more") {
  const MachMap map("m", test::first_repetitions(5), {.classes = 30011, .buckets = 150});
  const MachIndex index("i", map);
  const std::vector<Tensor> meta = test::peaked_meta(map, 20, 10, 1.0f, 6);
  for (const MachAggregation aggregation : {MachAggregation::min, MachAggregation::median}) {
    const TopK exact = mach_top_k(map, meta, 50, aggregation);
    double before = 0;
    for (const int64_t best : {1, 5, 20, 60, 150}) {
      const double now = recall(index.top_k(meta, 50, best, aggregation).top, exact);
      CAPTURE(now);
      CHECK(now >= before);
      if (best == 20) CHECK(now > 0.3);
      before = now;
    }
    CHECK(before == 1.0);
  }
  // The mean's best classes are in a best bucket.
  const TopK exact = mach_top_k(map, meta, 50);
  CHECK(recall(index.top_k(meta, 50, 1).top, exact) < 1.0);
  CHECK(recall(index.top_k(meta, 50, 20).top, exact) == 1.0);
}

TEST_CASE("mach index: what is not a number, and equal numbers") {
  const MachMap map("m", {0, 1, 2}, {.classes = 5003, .buckets = 70});
  const MachIndex index("i", map);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const int kind : {0, 1, 2, 3}) {
    CAPTURE(kind);
    const std::vector<Tensor> meta = test::peaked_meta(map, 4, 4, 1.0f, 5);
    for (const Tensor& tensor : meta) {
      for (int64_t i = 0; i < tensor.numel(); ++i) {
        float& value = tensor.data<float>()[i];
        if (kind == 0) value = nan;
        if (kind == 1) value = i % 5 == 0 ? nan : value;
        if (kind == 2) value = 0.5f;
        if (kind == 3) value = value > 0.02f ? 0.5f : 0.25f;
      }
    }
    for (const MachAggregation aggregation : kAggregations) {
      const TopK exact = mach_top_k(map, meta, 20, aggregation);
      CHECK(same(index.top_k(meta, 20, 70, aggregation).top, exact));
      CHECK(same(index.exact_top_k(meta, 20, 3, aggregation), exact));
    }
  }
}

TEST_CASE("mach index: too few classes leave the rest empty") {
  const MachMap map("m", {0}, {.classes = 20, .buckets = 10});
  const MachIndex index("i", map);
  const std::vector<Tensor> meta = test::peaked_meta(map, 1, 1, 1.0f, 5);
  const test::Ranking found = test::ranking_of(index.top_k(meta, 20, 1).top, 0);
  const auto end = std::find(found.ids.begin(), found.ids.end(), -1);
  CHECK(end - found.ids.begin() < 20);
  CHECK(std::all_of(end, found.ids.end(), [](int32_t id) { return id == -1; }));
  CHECK(found.scores.back() == -std::numeric_limits<float>::infinity());
}

TEST_CASE("mach index: bytes, workspace and threads") {
  const auto live = [](Category category) { return allocator(kCpu).current()[category]; };
  const MachMap map("m", {0, 1, 2}, {.classes = 4001, .buckets = 50});
  const int64_t before = live(Category::index);
  const MachIndex index("i", map);
  CHECK(live(Category::index) - before == 4 * 3 * (4001 + 51));
  CHECK(index.bytes() == 4 * 3 * (4001 + 51));
  const std::vector<Tensor> meta = test::peaked_meta(map, 70, 4, 1.0f, 5);
  allocator(kCpu).reset_peak();
  const int64_t workspace = live(Category::workspace);
  index.top_k(meta, 10, 6);
  // Lists, and of each repetition 7 buckets, for 64 queries.
  CHECK(allocator(kCpu).peak()[Category::workspace] - workspace == 64 * 8 * (10 + 3 * 7));
  const auto run = [&](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    const MachIndex built("i", map);
    return built.exact_top_k(meta, 10, 2, MachAggregation::median);
  };
  CHECK(same(run(1), run(5)));
}

TEST_CASE("mach index: what does not fit is refused") {
  const MachMap map("m", {0, 1}, {.classes = 9, .buckets = 4});
  const MachIndex index("i", map);
  const std::vector<Tensor> meta(2, Tensor::zeros({2, 4}, test::kTestData));
  const auto refused = [&](int64_t k, int64_t best) {
    return test::refusal([&] { index.top_k(meta, k, best); });
  };
  CHECK(test::contains(refused(10, 1), "[mach_index.top_k] the best 10 of 9 classes"));
  CHECK(test::contains(refused(1, 5), "the best 5 of 4 buckets"));
  CHECK(test::contains(refused(1, 0), "the best 0 of 4 buckets"));
}

}  // namespace
}  // namespace sketchgrad
