#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/tests/kernels/arrays.h"

using namespace sketchgrad;
using namespace sketchgrad::kernels;

namespace {

struct CountElement {
  std::atomic<int>* visits;
  void operator()(int64_t i) const { ++visits[i]; }
};

struct CountCell {
  std::atomic<int>* visits;
  int64_t cols;

  struct Column {
    std::atomic<int>* visits;
    void operator()(int64_t c) const { ++visits[c]; }
  };
  Column operator()(int64_t r) const { return {visits + r * cols}; }
};

struct CountPrefetch : CountCell {
  std::atomic<int>* prefetches;
  static constexpr int64_t kStreams = 2;
  void prefetch(int64_t r, int64_t first, int64_t last) const {
    for (int64_t c = first; c < last; ++c) ++prefetches[r * cols + c];
  }
};

bool all_once(const std::vector<std::atomic<int>>& visits) {
  for (const auto& v : visits) {
    if (v != 1) return false;
  }
  return true;
}

int64_t answer_on_cpu(const Exec&, int64_t value) { return value; }
int64_t answer_on_cuda(const Exec&, int64_t value) { return -value; }

}  // namespace

TEST_CASE_TEMPLATE("policy: every element is visited once", Policy, SerialPolicy, TbbPolicy) {
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{33}, kBlockElements - 1,
                              kBlockElements, kBlockElements + 1, 5 * kBlockElements + 7}) {
    CAPTURE(count);
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    for_each(Policy{}, count, CountElement{visits.data()});
    CHECK(all_once(visits));
  }
}

TEST_CASE_TEMPLATE("policy: every cell is visited once", Policy, SerialPolicy, TbbPolicy) {
  for (const int64_t rows : {0, 1, 7, 1000}) {
    for (const int64_t cols : {0, 1, 7, 33, 300}) {
      CAPTURE(rows);
      CAPTURE(cols);
      std::vector<std::atomic<int>> visits(static_cast<size_t>(rows * cols));
      for_each_row(Policy{}, rows, cols, CountCell{visits.data(), cols});
      CHECK(all_once(visits));
    }
  }
  const int64_t wide = 2 * kBlockElements + 5;
  std::vector<std::atomic<int>> visits(static_cast<size_t>(3 * wide));
  for_each_row(Policy{}, 3, wide, CountCell{visits.data(), wide});
  CHECK(all_once(visits));
}

TEST_CASE("policy: rows are prefetched at most once and never beyond the end") {
  constexpr int64_t kRows = 1000;
  for (const int64_t cols : {7, 64, 150}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(kRows * cols)),
        prefetches(static_cast<size_t>(kRows * cols));
    for_each_row(SerialPolicy{}, kRows, cols,
                 CountPrefetch{{visits.data(), cols}, prefetches.data()});
    CHECK(all_once(visits));
    int64_t prefetched = 0;
    for (const auto& p : prefetches) {
      CHECK(p <= 1);
      prefetched += p;
    }
    CHECK(prefetched > kRows * cols / 2);
  }
}

TEST_CASE("policy: ranges are cut by shape") {
  std::vector<int64_t> ends;
  for_each_range(SerialPolicy{}, 10, 4, [&](int64_t, int64_t end) { ends.push_back(end); });
  CHECK(ends == std::vector<int64_t>{4, 8, 10});
  ends.clear();
  for_each_range(SerialPolicy{}, 3, 0, [&](int64_t, int64_t end) { ends.push_back(end); });
  CHECK(ends == std::vector<int64_t>{1, 2, 3});
  for_each_range(SerialPolicy{}, -1, 4, [&](int64_t, int64_t) { FAIL("nothing to visit"); });
}

TEST_CASE("policy: there are no more spans than threads, and they cover all blocks") {
  for (const size_t threads : {size_t{1}, size_t{2}}) {
    for (const int64_t blocks : {0, 1, 7}) {
      std::atomic<int64_t> spans = 0, covered = 0;
      test::with_threads(threads, [&] {
        TbbPolicy::for_each_span(blocks, [&](int64_t first, int64_t last) {
          ++spans;
          covered += last - first;
        });
        return 0;
      });
      CHECK(spans <= static_cast<int64_t>(threads));
      CHECK(covered == blocks);
    }
  }
}

TEST_CASE("dispatch: the device chooses the body") {
  CHECK(dispatch(Exec{DeviceKind::cpu}, answer_on_cpu, answer_on_cuda, int64_t{7}) == 7);
  CHECK(dispatch(Exec{DeviceKind::cuda}, answer_on_cpu, answer_on_cuda, int64_t{7}) == -7);
}
