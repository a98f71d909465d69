#include "sketchgrad/layers/mach_index.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/layers/best_list.h"

namespace sketchgrad {

namespace {

constexpr const char* kTopK = "mach_index.top_k";

template <class F>  // f(i)
void for_each_one(int64_t count, const F& f) {
  kernels::for_each_range(kernels::TbbPolicy{}, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

bool any_above(const float* values, int64_t count, float bound) {
  int any = 0;
  for (int64_t i = 0; i < count; ++i) any |= values[i] > bound ? 1 : 0;
  return any != 0;
}

}  // namespace

MachIndex::MachIndex(const std::string& name, const MachMap& map)
    : map_(map),
      begin_(Tensor::zeros({map.places(), map.buckets() + 1}, {Category::index, name + ".begin"},
                           DType::int32)),
      classes_(Tensor::empty({map.places(), map.classes()}, {Category::index, name + ".classes"},
                             DType::int32)) {
  for_each_one(map.places(), [&](int64_t place) { fill(place); });
}

// A counting sort: begin[b + 1] first counts the classes of b, then is where the next of them goes.
void MachIndex::fill(int64_t place) {
  constexpr int64_t kAtOnce = 1024;
  int32_t* const begin = begin_.data<int32_t>() + place * (map_.buckets() + 1);
  int32_t* const ids = classes_.data<int32_t>() + place * map_.classes();
  const auto for_each_class = [&](const auto& f) {
    int32_t buckets[kAtOnce];
    for (int64_t first = 0; first < map_.classes(); first += kAtOnce) {
      const int64_t count = std::min(kAtOnce, map_.classes() - first);
      map_.buckets_of_place(place, first, count, buckets);
      for (int64_t i = 0; i < count; ++i) f(static_cast<int32_t>(first + i), buckets[i]);
    }
  };
  for_each_class([&](int32_t, int32_t bucket) { ++begin[bucket + 1]; });
  int32_t before = 0;
  for (int64_t b = 0; b < map_.buckets(); ++b) {
    const int32_t count = begin[b + 1];
    begin[b + 1] = before;
    before += count;
  }
  for_each_class([&](int32_t id, int32_t bucket) { ids[begin[bucket + 1]++] = id; });
}

MachIndex::ClassList MachIndex::classes_of(int64_t place, int64_t bucket) const {
  const int32_t* const begin = begin_.data<int32_t>() + place * (map_.buckets() + 1) + bucket;
  return {classes_.data<int32_t>() + place * map_.classes() + begin[0], begin[1] - begin[0]};
}

// One query of a call.
class MachIndex::Query {
 public:
  // How many buckets of a place are held.
  static int64_t kept(const MachMap& map, int64_t best) {
    return std::min(best + 1, map.buckets());
  }

  // list and buckets [places, kept] are this query's alone.
  Query(const MachIndex& index, const MachScorer& scorer, int64_t query, BestList list,
        Scored* buckets, int64_t best)
      : index_(index),
        scorer_(scorer),
        query_(query),
        list_(list),
        buckets_(buckets),
        best_(best),
        kept_(kept(scorer.map(), best)) {}

  void run() {
    choose_buckets();
    const int64_t places = scorer_.map().places();
    for (int64_t depth = 0; depth < best_ && !proven_; ++depth) {
      for (int64_t place = 0; place < places; ++place) {
        see(place, depth, index_.classes_of(place, chosen(place, depth).id));
      }
      proven_ = is_proven(depth + 1);
    }
  }

  void store(const Found& found, int64_t k) {
    found.proven.data<int32_t>()[query_] = proven_ ? 1 : 0;
    const int64_t count = list_.count();
    const Scored* const best = list_.sorted();
    int32_t* const ids = found.top.ids.data<int32_t>() + query_ * k;
    float* const scores = found.top.scores.data<float>() + query_ * k;
    for (int64_t j = 0; j < k; ++j) {
      ids[j] = j < count ? best[j].id : -1;
      scores[j] = j < count ? best[j].score : -std::numeric_limits<float>::infinity();
    }
  }

 private:
  // The best buckets of each place, best first, and one more, whose value bounds those of the rest.
  void choose_buckets() {
    constexpr int64_t kCompared = 64;
    const int64_t buckets = scorer_.map().buckets();
    for (int64_t place = 0; place < scorer_.map().places(); ++place) {
      const float* const values = scorer_.values(place, query_);
      BestList list(buckets_ + place * kept_, kept_);
      for (int64_t from = 0; from < buckets; from += kCompared) {
        const int64_t to = std::min(buckets, from + kCompared);
        // Of equal buckets the first is better, so only a larger value counts.
        if (list.full() && !any_above(values + from, to - from, list.worst().score)) continue;
        for (int64_t b = from; b < to; ++b) {
          list.add({MachScorer::without_nan(values[b]), static_cast<int32_t>(b)});
        }
      }
      list.sorted();
    }
  }

  const Scored& chosen(int64_t place, int64_t depth) const {
    return buckets_[place * kept_ + depth];
  }

  // Whether the class with these buckets came up before the bucket of `depth` in `place` did.
  bool was_seen(int64_t place, int64_t depth, const int32_t* buckets) const {
    for (int64_t p = 0; p < scorer_.map().places(); ++p) {
      const int64_t taken = p < place ? depth : depth - 1;
      if (taken < 0) return false;
      if (!better(chosen(p, taken), {scorer_.value(p, query_, buckets[p]), buckets[p]}))
        return true;
    }
    return false;
  }

  void see(int64_t place, int64_t depth, ClassList classes) {
    constexpr int64_t kAhead = 8;
    const MachMap& map = scorer_.map();
    const int32_t* const stored = map.stored().defined() ? map.stored().data<int32_t>() : nullptr;
    int32_t room[MachScorer::kMostPlaces];
    for (int64_t i = 0; i < classes.count; ++i) {
      if (stored != nullptr && i + kAhead < classes.count) {
        __builtin_prefetch(stored + classes.ids[i + kAhead] * map.places());
      }
      const int32_t* const buckets = map.buckets_of_classes(classes.ids[i], 1, room);
      const Scored entry{scorer_.score(query_, buckets), classes.ids[i]};
      if (list_.takes(entry) && !was_seen(place, depth, buckets)) list_.add(entry);
    }
  }

  // All aggregations grow with each value. `depth` buckets of each place have been taken.
  bool is_proven(int64_t depth) const {
    const int64_t places = scorer_.map().places();
    if (depth == scorer_.map().buckets()) return true;
    if (!list_.full()) return false;
    float values[MachScorer::kMostPlaces];
    for (int64_t p = 0; p < places; ++p) values[p] = chosen(p, depth).score;
    return list_.worst().score >
           mach_aggregate(scorer_.aggregation(), values, places, scorer_.map().buckets());
  }

  const MachIndex& index_;
  const MachScorer& scorer_;
  int64_t query_;
  BestList list_;
  Scored* buckets_;
  int64_t best_;
  int64_t kept_;
  bool proven_ = false;
};

MachIndex::Found MachIndex::top_k(const std::vector<Tensor>& meta, int64_t k, int64_t best,
                                  MachAggregation aggregation) const {
  const MemoryScope scope(kTopK);
  return search(MachScorer(kTopK, map_, meta, aggregation), k, best);
}

TopK MachIndex::exact_top_k(const std::vector<Tensor>& meta, int64_t k, int64_t best,
                            MachAggregation aggregation) const {
  const MemoryScope scope(kTopK);
  const MachScorer scorer(kTopK, map_, meta, aggregation);
  const Found found = search(scorer, k, best);
  const kernels::ScratchArray<int32_t> open(exec_on(kCpu), scorer.queries(), "mach.queries",
                                            kernels::ScratchKind::indices);
  size_t count = 0;
  for (int32_t query = 0; query < scorer.queries(); ++query) {
    if (found.proven.data<int32_t>()[query] == 0) open.data()[count++] = query;
  }
  search_all_classes(scorer, {open.data(), count}, found.top);
  return found.top;
}

MachIndex::Found MachIndex::search(const MachScorer& scorer, int64_t k, int64_t best) const {
  check(best >= 1 && best <= map_.buckets(), "[{}] the best {} of {} buckets", kTopK, best,
        map_.buckets());
  const int64_t queries = scorer.queries(), chosen = map_.places() * Query::kept(map_, best);
  const Found found{empty_top_k(kTopK, scorer, k),
                    Tensor::empty({queries}, {Category::data, "mach.proven"}, DType::int32)};
  // So many at once, for the sake of memory.
  constexpr int64_t kQueries = 64;
  const int64_t at_once = std::min(kQueries, queries);
  const kernels::ScratchArray<Scored> entries(exec_on(kCpu), at_once * k, "mach.best"),
      buckets(exec_on(kCpu), at_once * chosen, "mach.best_buckets");
  for (int64_t begin = 0; begin < queries; begin += kQueries) {
    for_each_one(std::min(kQueries, queries - begin), [&](int64_t i) {
      Query query(*this, scorer, begin + i, {entries.data() + i * k, k},
                  buckets.data() + i * chosen, best);
      query.run();
      query.store(found, k);
    });
  }
  return found;
}

}  // namespace sketchgrad
