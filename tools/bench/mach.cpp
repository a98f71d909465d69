#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/layers/mach_index.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

constexpr uint64_t kSeed = 7;
constexpr int kLikely = 20;  // classes of a query that its meta-classifiers know of

float uniform(uint64_t draw, uint64_t index) {
  return kernels::uniform_from_bits(kernels::philox_bits({kSeed, draw}, index));
}

// Softmaxes of logits as trained meta-classifiers give: noise, and a peak for the bucket of each
// likely class, lower from class to class. All on the CPU, where classes are scored.
std::vector<Tensor> meta_probabilities(const MachMap& map, int64_t queries) {
  constexpr float kNoise = 5.0f, kPeak = 12.0f, kFall = 0.3f;
  std::vector<Tensor> meta;
  for (int64_t p = 0; p < map.places(); ++p) {
    meta.push_back(Tensor::empty({queries, map.buckets()}, {Category::data, "bench.meta"}));
  }
  kernels::for_each_range(kernels::TbbPolicy{}, queries * map.places(), 1, [&](int64_t i, int64_t) {
    const int64_t query = i / map.places(), place = i % map.places();
    float* const values = meta[static_cast<size_t>(place)].data<float>() + query * map.buckets();
    for (int64_t b = 0; b < map.buckets(); ++b) {
      values[b] = kNoise * uniform(static_cast<uint64_t>(i) + 1, static_cast<uint64_t>(b));
    }
    for (int j = 0; j < kLikely; ++j) {
      const float place_of_class = uniform(0, static_cast<uint64_t>(query * kLikely + j));
      const auto id = static_cast<int64_t>(place_of_class * static_cast<float>(map.classes()));
      values[map.bucket(place, std::min(id, map.classes() - 1))] += kPeak - kFall * j;
    }
    double sum = 0;
    for (int64_t b = 0; b < map.buckets(); ++b) sum += values[b] = std::exp(values[b]);
    for (int64_t b = 0; b < map.buckets(); ++b) values[b] /= static_cast<float>(sum);
  });
  return meta;
}

// Of the true k best, how many are found.
double recall(const TopK& found, const TopK& exact) {
  const int64_t k = exact.ids.size(1);
  int64_t hits = 0;
  for (int64_t i = 0; i < exact.ids.numel(); ++i) {
    const int32_t* const row = found.ids.data<int32_t>() + i / k * k;
    hits += std::count(row, row + k, exact.ids.data<int32_t>()[i]);
  }
  return static_cast<double>(hits) / static_cast<double>(exact.ids.numel());
}

// A search over all classes must read each class's buckets once, and for each 64 queries a line of
// 64 bytes a class and repetition; for a query alone a byte.
Work work_of_all(const MachMap& map, int64_t queries) {
  const auto loads = static_cast<double>(map.classes()) * static_cast<double>(map.places());
  const double lines = std::ceil(static_cast<double>(queries) / 64.0);
  const double bytes_of_load = queries == 1 ? 1.0 : 64.0;
  return {loads * lines * (4.0 + bytes_of_load), 0,
          queries == 1 ? "classes x repetitions x (4 + 1)"
                       : "classes x repetitions x (4 + 64) for 64 queries"};
}

// A search by buckets must read all meta-probabilities.
Work work_of_best(const MachMap& map, int64_t queries) {
  return {4.0 * static_cast<double>(queries) * static_cast<double>(map.places()) *
              static_cast<double>(map.buckets()),
          0, "queries x repetitions x buckets x 4"};
}

void run_mach(const Options& options, Report& report) {
  const int64_t classes = options.mach_classes, queries = options.mach_queries;
  const int64_t k = std::min<int64_t>(100, classes);
  report.begin_group(
      "mach", fmt::format("the {} best of {} classes, {} repetitions of {} buckets, {} queries", k,
                          classes, options.mach_repetitions, options.mach_buckets, queries));
  std::vector<int32_t> repetitions;
  for (int64_t r = 0; r < options.mach_repetitions; ++r) {
    repetitions.push_back(static_cast<int32_t>(r));
  }
  const MachMapOptions size{.classes = classes, .buckets = options.mach_buckets, .seed = kSeed};
  MachMapOptions computed_size = size;
  computed_size.stored = false;
  const MachMap map("bench.map", repetitions, size);
  const MachMap computed("bench.map", repetitions, computed_size);
  const double start = seconds_now();
  const MachIndex index("bench.index", map);
  const double index_seconds = seconds_now() - start;
  const std::vector<Tensor> meta = meta_probabilities(map, queries);

  std::vector<Case> cases;
  const auto exact = [&](const MachMap& of) { return [&] { mach_top_k(of, meta, k); }; };
  cases.emplace_back("exact", work_of_all(map, queries), exact(map));
  cases.emplace_back("exact, buckets computed", work_of_all(map, queries), exact(computed));
  cases.emplace_back("exact, median", work_of_all(map, queries),
                     [&] { mach_top_k(map, meta, k, MachAggregation::median); });
  std::vector<int64_t> cuts;
  for (const int64_t best : {1, 5, 20, 100}) {
    if (best <= options.mach_buckets) cuts.push_back(best);
  }
  const MachAggregation kinds[] = {MachAggregation::mean, MachAggregation::median};
  const auto name_of = [](int64_t best, MachAggregation kind) {
    return fmt::format("best {} buckets{}", best, kind == MachAggregation::mean ? "" : ", median");
  };
  for (const MachAggregation kind : kinds) {
    for (const int64_t best : cuts) {
      cases.emplace_back(name_of(best, kind), work_of_best(map, queries),
                         [&, best, kind] { index.top_k(meta, k, best, kind); });
    }
  }
  cases.emplace_back("exact by best 20 buckets", work_of_best(map, queries), [&] {
    index.exact_top_k(meta, k, std::min<int64_t>(20, options.mach_buckets));
  });
  const std::vector<Timing> timings = measure(cases, options.seconds);
  for (size_t i = 0; i < cases.size(); ++i) {
    report.add(cases[i].name, cases[i].work, timings[i], paired_ratio(timings[i], timings[0]));
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    report.note(cases[i].name, static_cast<double>(queries) / timings[i].median(), "queries/s");
  }
  for (const MachAggregation kind : kinds) {
    const TopK all = mach_top_k(map, meta, k, kind);
    for (const int64_t best : cuts) {
      report.note(name_of(best, kind) + ": recall",
                  recall(index.top_k(meta, k, best, kind).top, all), "of the exact ones");
    }
  }
  report.note("an index of all classes", index_seconds, "s");
}

}  // namespace

std::vector<Group> mach_groups() { return {{"mach", run_mach}}; }

}  // namespace sketchgrad::bench
