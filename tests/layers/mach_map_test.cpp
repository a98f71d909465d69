#include "sketchgrad/layers/mach_map.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cmath>

#include "sketchgrad/tests/layers/mach_testing.h"

namespace sketchgrad {
namespace {

std::vector<int32_t> buckets_of(const MachMap& map, int64_t place) {
  std::vector<int32_t> buckets(static_cast<size_t>(map.classes()));
  map.buckets_of_place(place, 0, map.classes(), buckets.data());
  return buckets;
}

// How far a sum of squared standard normal deviates is from its expectation, in standard deviations
// (Wilson and Hilferty 1931).
double deviation(double chi_square, double degrees) {
  const double spread = 2.0 / (9.0 * degrees);
  return (std::cbrt(chi_square / degrees) - (1.0 - spread)) / std::sqrt(spread);
}

double deviation_from_uniform(const std::vector<int64_t>& counts) {
  const double total =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{}));
  const double expected = total / static_cast<double>(counts.size());
  double chi_square = 0;
  for (const int64_t count : counts) {
    const double difference = static_cast<double>(count) - expected;
    chi_square += difference * difference / expected;
  }
  return deviation(chi_square, static_cast<double>(counts.size()) - 1);
}

TEST_CASE("mach map: stored and computed buckets are the same, however they are asked for") {
  struct Size {
    int64_t classes, buckets;
    std::vector<int32_t> repetitions;
  };
  for (const Size& size : {Size{1, 1, {0}}, Size{1, 7, {3}}, Size{63, 5, {0, 1, 2}},
                           Size{64, 1, {0, 9}}, Size{1001, 37, {5, 0, 3, 2, 1, 4, 17}},
                           Size{20011, 1000, {2, 6}}, Size{77, 2147483647, {2147483647, 0}}}) {
    CAPTURE(size.classes);
    const MachMap stored("s", size.repetitions,
                         {.classes = size.classes, .buckets = size.buckets, .seed = 9});
    const MachMap computed(
        "c", size.repetitions,
        {.classes = size.classes, .buckets = size.buckets, .seed = 9, .stored = false});
    CHECK_FALSE(computed.stored().defined());
    const int64_t places = stored.places();
    std::vector<int32_t> room(static_cast<size_t>(size.classes * places));
    const int32_t* const all = computed.buckets_of_classes(0, size.classes, room.data());
    CHECK(all == room.data());
    CHECK(room == stored.stored().to_vector<int32_t>());
    CHECK(stored.buckets_of_classes(0, size.classes, nullptr) == stored.stored().data<int32_t>());
    std::vector<int32_t> one(static_cast<size_t>(places)), other = one;
    for (int64_t p = 0; p < places; ++p) CHECK(buckets_of(stored, p) == buckets_of(computed, p));
    for (int64_t c = 0; c < size.classes; c += 1 + size.classes / 50) {
      stored.buckets_of_class(c, one.data());
      computed.buckets_of_class(c, other.data());
      CHECK(one == other);
      for (int64_t p = 0; p < places; ++p) {
        const int32_t bucket = all[c * places + p];
        CHECK(bucket == stored.bucket(p, c));
        CHECK(bucket == computed.bucket(p, c));
        CHECK(bucket >= 0);
        CHECK(bucket < size.buckets);
      }
      // Blocks that begin anywhere.
      const int64_t count = std::min<int64_t>(5, size.classes - c);
      std::vector<int32_t> part(static_cast<size_t>(count * places));
      const int32_t* const block = computed.buckets_of_classes(c, count, part.data());
      CHECK(
          std::equal(block, block + count * places, stored.stored().data<int32_t>() + c * places));
    }
  }
}

TEST_CASE("mach map: a repetition is the same in whatever map it is") {
  const MachMapOptions options{.classes = 500, .buckets = 30, .seed = 4};
  const MachMap all("all", test::first_repetitions(9), options), some("some", {7, 2}, options);
  CHECK(buckets_of(all, 7) == buckets_of(some, 0));
  CHECK(buckets_of(all, 2) == buckets_of(some, 1));
  CHECK(buckets_of(all, 2) != buckets_of(some, 0));
  MachMapOptions other = options;
  other.seed = 5;
  CHECK(buckets_of(all, 0) != buckets_of(MachMap("other", {0}, other), 0));
}

TEST_CASE("mach map: the buckets, by hand") {
  const MachMap map("m", {6}, {.classes = 100, .buckets = 1000, .seed = 11});
  // Word 6 % 4 of the draw of repetitions 4 to 7.
  const uint64_t word = kernels::philox(11, (uint64_t{0x4D414348} << 32) + 1, 42).v[2];
  CHECK(map.bucket(0, 42) == static_cast<int32_t>(word * 1000 >> 32));
}

TEST_CASE("mach map: buckets are filled evenly") {
  for (const int64_t buckets : {2, 7, 100, 1000}) {
    const MachMap map("m", {0, 1, 2, 3, 100}, {.classes = 100000, .buckets = buckets, .seed = 1});
    for (int64_t p = 0; p < map.places(); ++p) {
      std::vector<int64_t> loads(static_cast<size_t>(buckets));
      for (const int32_t b : buckets_of(map, p)) ++loads[static_cast<size_t>(b)];
      CHECK(std::abs(deviation_from_uniform(loads)) < 4.5);
    }
  }
}

TEST_CASE("mach map: two classes share a bucket in one of B repetitions") {
  constexpr int64_t kBuckets = 20;
  constexpr int kPairs = 200, kRepetitions = 250;
  const MachMap map("m", test::first_repetitions(kRepetitions),
                    {.classes = 2 * kPairs, .buckets = kBuckets, .seed = 2});
  int64_t shared = 0, shared_by_neighbours = 0;
  for (int64_t p = 0; p < kRepetitions; ++p) {
    for (int64_t c = 0; c < kPairs; ++c) {
      shared += map.bucket(p, c) == map.bucket(p, c + kPairs) ? 1 : 0;
      shared_by_neighbours += map.bucket(p, 2 * c) == map.bucket(p, 2 * c + 1) ? 1 : 0;
    }
  }
  const double n = double{kPairs} * kRepetitions, rate = 1.0 / kBuckets;
  const double error = std::sqrt(n * rate * (1 - rate));
  CHECK(std::abs(static_cast<double>(shared) - n * rate) < 4.5 * error);
  CHECK(std::abs(static_cast<double>(shared_by_neighbours) - n * rate) < 4.5 * error);
}

TEST_CASE("mach map: repetitions are independent") {
  constexpr int64_t kBuckets = 12;
  // Of one draw and of two.
  const MachMap map("m", {0, 1, 2, 3, 4, 8}, {.classes = 50000, .buckets = kBuckets, .seed = 3});
  for (int64_t a = 0; a < map.places(); ++a) {
    for (int64_t b = 0; b < a; ++b) {
      std::vector<int64_t> together(kBuckets * kBuckets);
      for (int64_t c = 0; c < map.classes(); ++c) {
        ++together[static_cast<size_t>(map.bucket(a, c) * kBuckets + map.bucket(b, c))];
      }
      CHECK(std::abs(deviation_from_uniform(together)) < 4.5);
    }
  }
}

TEST_CASE("mach map: its bytes are as stated, and threads change nothing") {
  const auto index_bytes = [] { return allocator(kCpu).current()[Category::index]; };
  const int64_t before = index_bytes();
  {
    const MachMap stored("s", {0, 1, 2}, {.classes = 1001, .buckets = 10});
    CHECK(index_bytes() - before == 4 * 3 * 1001);
    const auto blocks = allocator(kCpu).live_blocks();
    CHECK(std::any_of(blocks.begin(), blocks.end(), [](const LiveBlock& block) {
      return block.name == "s.buckets" && block.bytes == 4 * 3 * 1001;
    }));
    const MachMap computed("c", {0, 1, 2}, {.classes = 1001, .buckets = 10, .stored = false});
    CHECK(index_bytes() - before == 4 * 3 * 1001);
  }
  CHECK(index_bytes() == before);
  const auto build = [](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    return MachMap("m", {0, 1, 5}, {.classes = 60001, .buckets = 999})
        .stored()
        .to_vector<int32_t>();
  };
  CHECK(build(1) == build(4));
}

TEST_CASE("mach map: what does not fit is refused") {
  const auto refused = [](std::vector<int32_t> repetitions, int64_t classes, int64_t buckets) {
    return test::refusal(
        [&] { MachMap("words", repetitions, {.classes = classes, .buckets = buckets}); });
  };
  CHECK(test::contains(refused({0}, 0, 5), "[words] a map of 0 classes"));
  CHECK(test::contains(refused({0}, int64_t{1} << 31, 5), "2147483648 classes"));
  CHECK(test::contains(refused({0}, 5, 0), "0 buckets"));
  CHECK(test::contains(refused({}, 5, 5), "without repetitions"));
  CHECK(test::contains(refused({4, -2}, 5, 5), "repetition -2"));
  CHECK(test::contains(refused({4, 2, 4}, 5, 5), "repetition 4 is there twice"));
}

}  // namespace
}  // namespace sketchgrad
