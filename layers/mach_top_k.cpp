#include "sketchgrad/layers/mach_top_k.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <numeric>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/layers/best_list.h"
#include "sketchgrad/layers/mach_filter.h"

namespace sketchgrad {

namespace {

constexpr const char* kTopK = "mach_top_k";
constexpr const char* kScores = "mach_scores";

// Classes are seen in rounds. Those of the first are scored exactly; before each further one, which
// is larger by this factor, the filter learns the bounds that are known by then. Of a round's
// classes about this many times k then pass, so a large factor costs exact scores, and a small one
// tables.
constexpr int64_t kGrowth = 8;
constexpr int64_t kFirstRound = 4096;
constexpr int64_t kFirstRoundOfK = 4;
constexpr int64_t kTaskClasses = 8192;
constexpr float kNone = -std::numeric_limits<float>::infinity();

// The search for up to 64 queries.
class Search {
 public:
  Search(const MachScorer& scorer, std::span<const int32_t> queries, int64_t k)
      : scorer_(scorer),
        queries_(queries),
        count_(static_cast<int64_t>(queries.size())),
        k_(k),
        entries_(exec_on(kCpu), count_ * k, "mach.best") {
    for (int64_t i = 0; i < count_; ++i) lists_[i] = {entries_.data() + i * k, k};
  }

  void run() {
    const int64_t classes = scorer_.map().classes();
    int64_t seen = std::min(classes, mach_first_round(k_));
    score_first(seen);
    if (seen == classes) return;
    MachFilter filter(scorer_, queries_);
    while (seen < classes) {
      const int64_t end = std::min(classes, kGrowth * seen);
      score_filtered(filter, {seen, end - seen});
      seen = end;
    }
  }

  void store(const TopK& result) {
    for (int64_t i = 0; i < count_; ++i) {
      const Scored* const best = lists_[i].sorted();
      const int64_t row = query(i) * k_;
      for (int64_t j = 0; j < k_; ++j) {
        result.ids.data<int32_t>()[row + j] = best[j].id;
        result.scores.data<float>()[row + j] = best[j].score;
      }
    }
  }

 private:
  int64_t query(int64_t i) const { return queries_[static_cast<size_t>(i)]; }

  void score_first(int64_t classes) {
    kernels::for_each_range(kernels::TbbPolicy{}, count_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) score_exactly(i, classes);
    });
  }

  void score_exactly(int64_t i, int64_t classes) {
    constexpr int64_t kHashes = 8192;
    int32_t room[kHashes];
    const int64_t places = scorer_.map().places(), step = kHashes / places;
    for (int64_t begin = 0; begin < classes; begin += step) {
      const int64_t count = std::min(step, classes - begin);
      const int32_t* const hashes = scorer_.map().buckets_of_classes(begin, count, room);
      for (int64_t c = 0; c < count; ++c) {
        lists_[i].add(
            {scorer_.score(query(i), hashes + c * places), static_cast<int32_t>(begin + c)});
      }
    }
  }

  // The k best are the same in whatever order tasks bring their candidates. All ids are beyond
  // those that are in the lists before, so that a score equal to the worst there is not enough.
  void score_filtered(MachFilter& filter, IndexRange classes) {
    float bounds[MachFilter::kMostLanes];
    for (int64_t i = 0; i < count_; ++i) bounds[i] = lists_[i].worst().score;
    filter.set_bounds(bounds);
    const int64_t end = classes.begin + classes.count;
    kernels::for_each_range(
        kernels::TbbPolicy{}, classes.count, kTaskClasses, [&](int64_t first, int64_t last) {
          const IndexRange part{classes.begin + first,
                                std::min(end, classes.begin + last) - (classes.begin + first)};
          filter.pass(part, [&](const MachFilter::Candidate* candidates, int64_t count) {
            take(candidates, count);
          });
        });
  }

  void take(const MachFilter::Candidate* candidates, int64_t count) {
    constexpr int64_t kAtOnce = 64;
    float scores[kAtOnce];
    for (int64_t done = 0; done < count; done += kAtOnce) {
      const MachFilter::Candidate* const part = candidates + done;
      const int64_t size = std::min(kAtOnce, count - done);
      for (int64_t i = 0; i < size; ++i) {
        scores[i] = scorer_.score_of_class(query(part[i].lane), part[i].class_id);
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      for (int64_t i = 0; i < size; ++i) lists_[part[i].lane].add({scores[i], part[i].class_id});
    }
  }

  const MachScorer& scorer_;
  std::span<const int32_t> queries_;
  int64_t count_;
  int64_t k_;
  kernels::ScratchArray<Scored> entries_;  // [queries, k]
  BestList lists_[MachFilter::kMostLanes];
  std::mutex mutex_;
};

}  // namespace

TopK mach_top_k(const MachMap& map, const std::vector<Tensor>& meta, int64_t k,
                MachAggregation aggregation) {
  const MemoryScope scope(kTopK);
  const MachScorer scorer(kTopK, map, meta, aggregation);
  const TopK result = empty_top_k(kTopK, scorer, k);
  const kernels::ScratchArray<int32_t> all(exec_on(kCpu), scorer.queries(), "mach.queries",
                                           kernels::ScratchKind::indices);
  std::iota(all.data(), all.data() + scorer.queries(), 0);
  search_all_classes(scorer, {all.data(), static_cast<size_t>(scorer.queries())}, result);
  return result;
}

TopK empty_top_k(const std::string& name, const MachScorer& scorer, int64_t k) {
  const int64_t classes = scorer.map().classes();
  check(k >= 1 && k <= classes, "[{}] the best {} of {} classes", name, k, classes);
  const Shape shape{scorer.queries(), k};
  return {Tensor::empty(shape, {Category::data, "mach.top_k.ids"}, DType::int32),
          Tensor::empty(shape, {Category::data, "mach.top_k.scores"})};
}

int64_t mach_first_round(int64_t k) { return std::max(kFirstRound, kFirstRoundOfK * k); }

void search_all_classes(const MachScorer& scorer, std::span<const int32_t> queries,
                        const TopK& result) {
  for (size_t begin = 0; begin < queries.size(); begin += MachFilter::kMostLanes) {
    const size_t count = std::min<size_t>(MachFilter::kMostLanes, queries.size() - begin);
    Search search(scorer, queries.subspan(begin, count), result.ids.size(1));
    search.run();
    search.store(result);
  }
}

Tensor mach_scores(const MachMap& map, const std::vector<Tensor>& meta, const Tensor& ids,
                   MachAggregation aggregation) {
  const MemoryScope scope(kScores);
  const MachScorer scorer(kScores, map, meta, aggregation);
  check(ids.dim() == 2 && ids.size(0) == scorer.queries() && ids.device() == kCpu,
        "[{}] ids are {}, they must be [{}, n] on the CPU", kScores, to_string(ids.shape()),
        scorer.queries());
  const int32_t* const id = ids.data<int32_t>();
  const int64_t wrong =
      kernels::find_out_of_range(ids.exec(), id, ids.numel(), map.classes(), /*low=*/-1);
  check(wrong < 0, "[{}] id {} at position {} is none of {} classes (-1 for none)", kScores,
        wrong < 0 ? 0 : id[wrong], wrong, map.classes());
  const Tensor scores = Tensor::empty(ids.shape(), {Category::data, "mach.scores"});
  float* const out = scores.data<float>();
  const int64_t columns = ids.size(1);
  kernels::for_each_range(kernels::TbbPolicy{}, ids.numel(), kernels::kBlockElements / map.places(),
                          [&](int64_t begin, int64_t end) {
                            for (int64_t i = begin; i < end; ++i) {
                              out[i] =
                                  id[i] < 0 ? kNone : scorer.score_of_class(i / columns, id[i]);
                            }
                          });
  return scores;
}

}  // namespace sketchgrad
