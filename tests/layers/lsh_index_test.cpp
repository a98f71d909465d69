#include "sketchgrad/layers/lsh_index.h"

#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <set>

#include "sketchgrad/kernels/lsh_rules.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad {
namespace {

constexpr int64_t kRows = 300;
constexpr int64_t kDim = 12;

LshOptions small_options(LshHash hash = LshHash::simhash) {
  return {.hash = hash, .bits = 6, .tables = 4, .bucket_limit = kRows};
}

Tensor ids_of(const std::vector<int32_t>& ids) {
  return Tensor::from(ids, {static_cast<int64_t>(ids.size())}, test::kTestData);
}

struct Found {
  std::vector<int32_t> rows, counts;
  bool operator==(const Found&) const = default;
};

Found find(const LshIndex& index, const Tensor& queries) {
  const LshIndex::Hits hits = index.find(index.codes(queries));
  return {hits.rows, hits.counts};
}

// Rows and queries whose codes are the same in a table, by comparing all.
Found find_by_codes(const LshIndex& index, const Tensor& table, const Tensor& queries) {
  const auto rows = index.codes(table).to_vector<int32_t>();
  const auto asked = index.codes(queries).to_vector<int32_t>();
  const auto tables = static_cast<size_t>(index.options().tables);
  Found found;
  for (size_t r = 0; r < rows.size() / tables; ++r) {
    int32_t count = 0;
    for (size_t q = 0; q < asked.size() / tables; ++q) {
      for (size_t l = 0; l < tables; ++l) {
        count += rows[r * tables + l] == asked[q * tables + l] ? 1 : 0;
      }
    }
    if (count == 0) continue;
    found.rows.push_back(static_cast<int32_t>(r));
    found.counts.push_back(count);
  }
  return found;
}

TEST_CASE("lsh index: it finds the rows with the queries' codes") {
  for (const LshHash hash : {LshHash::simhash, LshHash::dwta}) {
    CAPTURE(static_cast<int>(hash));
    const Tensor table = test::random_normal({kRows, kDim}, 1);
    const Tensor queries = test::random_normal({2, 5, kDim}, 2);
    LshIndex index("index", kRows, kDim, small_options(hash), test::kTestDevice);
    index.rebuild(table, {3, 4});
    const Found found = find(index, queries);
    CHECK(found == find_by_codes(index, table, queries));
    CHECK(found.rows.size() > 20);
    CHECK(found.rows.size() < kRows);
    // A row is where it is asked for itself: in all tables.
    const Found self = find(index, table.rows(17, 1));
    const auto place = std::find(self.rows.begin(), self.rows.end(), 17);
    REQUIRE(place != self.rows.end());
    CHECK(self.counts[static_cast<size_t>(place - self.rows.begin())] == 4);
    // Other functions find others.
    index.rebuild(table, {3, 5});
    CHECK_FALSE(found == find(index, queries));
  }
}

TEST_CASE("lsh index: rows that are taken in again stand where a new index has them") {
  for (const LshHash hash : {LshHash::simhash, LshHash::dwta}) {
    const Tensor table = test::random_normal({kRows, kDim}, 1);
    const Tensor queries = test::random_normal({10, kDim}, 2);
    LshIndex index("index", kRows, kDim, small_options(hash), test::kTestDevice);
    index.rebuild(table, {3, 4});
    const Found before = find(index, queries);
    table.rows(100, 50).copy_from(test::random_normal({50, kDim}, 9));
    CHECK(find(index, queries) == before);
    std::vector<int32_t> changed(50);
    std::iota(changed.begin(), changed.end(), 100);
    index.update(table, ids_of(changed));
    CHECK(find(index, queries) == find_by_codes(index, table, queries));
    CHECK_FALSE(find(index, queries) == before);
    LshIndex fresh("index", kRows, kDim, small_options(hash), test::kTestDevice);
    fresh.rebuild(table, {3, 4});
    CHECK(find(index, queries) == find(fresh, queries));
  }
}

TEST_CASE("lsh index: a full bucket holds each of its rows with the same probability") {
  constexpr int64_t kSame = 60, kLimit = 15;
  constexpr int kRepeats = 200;
  const Tensor table = Tensor::full({kSame, kDim}, 1.0f, test::kTestData, test::kTestDevice);
  LshIndex index("index", kSame, kDim, {.bits = 6, .tables = 2, .bucket_limit = kLimit},
                 test::kTestDevice);
  std::vector<int> held(kSame);
  Rng rng(8);
  for (int i = 0; i < kRepeats; ++i) {
    index.rebuild(table, rng.next());
    const Found found = find(index, table.rows(0, 1));
    int members = 0;
    for (size_t k = 0; k < found.rows.size(); ++k) {
      held[static_cast<size_t>(found.rows[k])] += found.counts[k];
      members += found.counts[k];
    }
    CHECK(members == 2 * kLimit);
  }
  const double p = double{kLimit} / kSame, draws = 2.0 * kRepeats;
  double chi_square = 0;
  for (const int count : held) {
    chi_square += (count - draws * p) * (count - draws * p) / (draws * p * (1 - p));
  }
  // 60 degrees, less one.
  CHECK(chi_square < 59 + 4.5 * std::sqrt(2 * 59.0));
  CHECK(chi_square > 59 - 4.5 * std::sqrt(2 * 59.0));
}

TEST_CASE("lsh index: full buckets that rows leave and join hold what a new index would") {
  LshOptions options = small_options();
  options.bits = 2;
  options.bucket_limit = 10;
  const Tensor table = test::random_normal({kRows, kDim}, 1);
  const Tensor queries = test::random_normal({10, kDim}, 2);
  LshIndex index("index", kRows, kDim, options, test::kTestDevice);
  index.rebuild(table, {3, 4});
  for (int i = 0; i < 5; ++i) {
    table.rows(40 * i, 60).copy_from(test::random_normal({60, kDim}, 9 + static_cast<uint64_t>(i)));
    std::vector<int32_t> changed(60);
    std::iota(changed.begin(), changed.end(), 40 * i);
    index.update(table, ids_of(changed));
    LshIndex fresh("index", kRows, kDim, options, test::kTestDevice);
    fresh.rebuild(table, {3, 4});
    CHECK(find(index, queries) == find(fresh, queries));
  }
}

TEST_CASE("lsh index: a row is found with the stated probability") {
  constexpr int kRepeats = 1500, kTables = 3, kBits = 4;
  const Tensor table = test::random_normal({8, kDim}, 1), query = test::random_normal({1, kDim}, 2);
  LshIndex index("index", 8, kDim, {.bits = kBits, .tables = kTables}, test::kTestDevice);
  std::vector<int> found(8);
  Rng rng(5);
  for (int i = 0; i < kRepeats; ++i) {
    index.rebuild(table, rng.next());
    for (const int32_t row : find(index, query).rows) ++found[static_cast<size_t>(row)];
  }
  const auto rows = table.to_vector<float>(), q = query.to_vector<float>();
  for (size_t r = 0; r < 8; ++r) {
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < kDim; ++i) {
      dot += double{q[i]} * rows[r * kDim + i];
      a += double{q[i]} * q[i];
      b += double{rows[r * kDim + i]} * rows[r * kDim + i];
    }
    const double p = kernels::simhash_collision(
        static_cast<float>(dot), static_cast<float>(std::sqrt(a * b)), kTables, kBits);
    CHECK(std::abs(found[r] - kRepeats * p) < 4.5 * std::sqrt(kRepeats * p * (1 - p)) + 1);
  }
}

TEST_CASE("lsh index: saved and loaded, and with any number of threads, it is the same") {
  const Tensor table = test::random_normal({kRows, kDim}, 1);
  const Tensor queries = test::random_normal({10, kDim}, 2);
  LshOptions options = small_options();
  options.bits = 2;
  options.bucket_limit = 20;  // full
  const auto build = [&](size_t threads) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    auto index = std::make_unique<LshIndex>("index", kRows, kDim, options, test::kTestDevice);
    index->rebuild(table, {3, 4});
    table.rows(7, 1).copy_from(test::random_normal({1, kDim}, 11));
    index->update(table, ids_of({7}));
    table.copy_from(test::random_normal({kRows, kDim}, 1));
    return index;
  };
  const auto one = build(1), two = build(2);
  CHECK(find(*one, queries) == find(*two, queries));
  StateDict state;
  one->save(state, "lsh.");
  LshIndex loaded("index", kRows, kDim, options, test::kTestDevice);
  loaded.load(state, "lsh.");
  CHECK(find(loaded, queries) == find(*two, queries));
  std::fill_n(state.tensors.at("lsh.codes").data<int32_t>() + 5, 1, 4);
  CHECK_THROWS_WITH_AS(loaded.load(state, "lsh."),
                       doctest::Contains("lsh.codes holds 4 at 5, a code has 2 bits"), DataError);
}

TEST_CASE("lsh index: its bytes are as stated") {
  const int64_t before = allocator(kCpu).current()[Category::index];
  {
    const LshIndex index("index", 1000, kDim, {.bits = 5, .tables = 3, .bucket_limit = 7},
                         test::kTestDevice);
    CHECK(allocator(kCpu).current()[Category::index] - before ==
          4 * (1000 * 3 + 3 * 32 * 7 + 2 * 3 * 32));
  }
  CHECK(allocator(kCpu).current()[Category::index] == before);
  CHECK(LshIndex("index", 32000, kDim, {.bits = 5, .tables = 3}, test::kTestDevice)
            .options()
            .bucket_limit == 4000);
}

TEST_CASE("lsh index: what does not fit is refused") {
  const auto refused = [](const LshOptions& options) {
    return test::refusal([&] { LshIndex("index", kRows, kDim, options, test::kTestDevice); });
  };
  CHECK(test::contains(refused({.bits = 25}), "codes of 25 bits"));
  CHECK(test::contains(refused({.tables = 0}), "0 hash tables"));
  CHECK(test::contains(refused({.hash = LshHash::dwta, .bits = 7}), "hashes of 3"));
  CHECK(test::contains(refused({.hash = LshHash::dwta, .bits = 8, .bin_bits = 4}),
                       "bins of 16 columns, but there are 12"));
  LshIndex index("index", kRows, kDim, small_options(), test::kTestDevice);
  const Tensor table = test::random_normal({kRows, kDim}, 1);
  CHECK(test::contains(test::refusal([&] { index.codes(table); }), "has not been built"));
  CHECK(test::contains(test::refusal([&] {
                         index.rebuild(table.rows(0, 5), {1, 2});
                       }),
                       "a table [5, 12] for an index of [300, 12]"));
  CHECK(parse_lsh_hash("dwta") == LshHash::dwta);
  CHECK_THROWS_AS(parse_lsh_hash("minhash"), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad
