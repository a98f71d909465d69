#include "sketchgrad/layers/mach_filter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad {

namespace {

// Larger than any sum of 8-bit numbers over kMostPlaces places.
constexpr uint16_t kNever = 0xFFFF;
constexpr double kLevels = 255;

// Lines of a table that are asked for ahead of their addition.
constexpr int64_t kLinesAhead = 64;

// A class's place in the table of one repetition is hashes[place] * lanes.
struct Table {
  const uint8_t* bytes;
  int64_t places;
  int64_t stride;  // bytes of one repetition
};

// Bytes of a line are taken as words of two, high and low, that are added side by side. lanes / 2
// words: the low bytes are those of the first half of the lanes.
template <int lanes>
void add_up_lines(const Table& table, const int32_t* hashes, int64_t classes, uint16_t* sums) {
  // GCC 12 drops the attribute of an alias (using) that depends on a template argument.
  typedef uint16_t Words __attribute__((vector_size(lanes)));
  const int64_t ahead = std::max<int64_t>(1, kLinesAhead / table.places);
  for (int64_t c = 0; c < classes; ++c, hashes += table.places, sums += lanes) {
    if (c + ahead < classes) {
      const int32_t* const later = hashes + ahead * table.places;
      const uint8_t* bytes = table.bytes;
      for (int64_t p = 0; p < table.places; ++p, bytes += table.stride) {
        __builtin_prefetch(bytes + int64_t{later[p]} * lanes);
      }
    }
    Words all{}, high{};
    const uint8_t* bytes = table.bytes;
    for (int64_t p = 0; p < table.places; ++p, bytes += table.stride) {
      Words words;
      std::memcpy(&words, bytes + int64_t{hashes[p]} * lanes, sizeof(words));
      all += words;
      high += words >> 8;
    }
    // all = low + 256 high, of which the low sums are what is left modulo 2^16.
    const Words low = all - (high << 8);
    std::memcpy(sums, &low, sizeof(low));
    std::memcpy(sums + lanes / 2, &high, sizeof(high));
  }
}

// Where a lane's byte is in its line.
int64_t byte_of_lane(int64_t lane, int64_t lanes) {
  if (lanes == 1) return 0;
  return lane < lanes / 2 ? 2 * lane : 2 * lane - lanes + 1;
}

void add_up_singles(const Table& table, const int32_t* hashes, int64_t classes, uint16_t* sums) {
  for (int64_t c = 0; c < classes; ++c, hashes += table.places) {
    uint32_t sum = 0;
    const uint8_t* bytes = table.bytes;
    for (int64_t p = 0; p < table.places; ++p, bytes += table.stride) sum += bytes[hashes[p]];
    sums[c] = static_cast<uint16_t>(sum);
  }
}

}  // namespace

MachFilter::MachFilter(const MachScorer& scorer, std::span<const int32_t> queries)
    : scorer_(scorer),
      queries_(queries),
      count_(static_cast<int64_t>(queries.size())),
      lanes_(lanes_for(count_)),
      table_(exec_on(kCpu), table_bytes(scorer.map().places(), scorer.map().buckets(), count_),
             "mach.filter") {
  kernels::for_each_range(kernels::TbbPolicy{}, count_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) ranges_[lane] = range_of(query(lane));
  });
}

int64_t MachFilter::lanes_for(int64_t queries) {
  if (queries <= 1) return 1;
  return queries <= 16 ? 16 : kMostLanes;
}

int64_t MachFilter::table_bytes(int64_t places, int64_t buckets, int64_t queries) {
  return places * buckets * lanes_for(queries);
}

MachFilter::Range MachFilter::range_of(int64_t query_number) const {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float low = kInfinity, high = -kInfinity, largest = -kInfinity;
  const int64_t buckets = scorer_.map().buckets();
  for (int64_t p = 0; p < scorer_.map().places(); ++p) {
    const float* const values = scorer_.values(p, query_number);
#pragma omp simd reduction(min : low) reduction(max : high, largest)
    for (int64_t b = 0; b < buckets; ++b) {
      const float value = values[b];
      const bool finite = std::abs(value) < kInfinity;
      low = finite && value < low ? value : low;
      high = finite && value > high ? value : high;
      largest = value > largest ? value : largest;
    }
  }
  return {low, high, low <= high && largest < kInfinity};
}

MachFilter::Rounding MachFilter::rounding(const Range& range, float bound) const {
  const int64_t places = scorer_.map().places();
  const auto b = static_cast<double>(scorer_.map().buckets());
  switch (scorer_.aggregation()) {
    case MachAggregation::min:
      return {bound, 0, static_cast<uint16_t>(places)};
    case MachAggregation::median:
      return {bound, 0, static_cast<uint16_t>((places + 1) / 2)};
    case MachAggregation::unbiased:
      return rounding_of_sums(range, bound, double{bound} * (b - 1.0) / b + 1.0 / b);
    case MachAggregation::mean:
      break;
  }
  return rounding_of_sums(range, bound, double{bound});
}

// The score `bound` is that of the mean `mean`.
MachFilter::Rounding MachFilter::rounding_of_sums(const Range& range, float bound,
                                                  double mean) const {
  const Rounding everything{0, 0, 0};
  if (!range.finite || !std::isfinite(mean)) return everything;
  const auto places = static_cast<double>(scorer_.map().places());
  const double low = range.low, spread = double{range.high} - low;
  // Rounding of exact scores: of a sum of what has one sign, relative to the sum itself.
  const double size =
      low >= 0 ? std::abs(mean) : std::max(std::abs(low), std::abs(double{range.high}));
  const double error = (places + 4) * 1.2e-7 * (size + std::abs(bound));
  const double least = places * (mean - low - error);
  // No class is below the sum of zeros: without another bound, some value must be above.
  if (low == 0 && mean == 0) return {0, 0, 1};
  if (!(least > 0)) return everything;
  const double step = (spread > 0 ? std::min(spread, least) : least) / kLevels;
  if (step < 1e-30) return everything;
  // A thousandth of a step is more than float32 loses of a number below 256.
  const double steps = std::ceil(least / step - 1e-3 * places);
  return {range.low, static_cast<float>(1.0 / step),
          static_cast<uint16_t>(std::clamp(steps, 0.0, double{kNever - 1}))};
}

void MachFilter::set_bounds(const float* bounds) {
  Rounding roundings[kMostLanes];
  for (int64_t lane = 0; lane < lanes_; ++lane) {
    roundings[lane] =
        lane < count_ ? rounding(ranges_[lane], bounds[lane]) : Rounding{0, 0, kNever};
  }
  for (int64_t i = 0; i < kCompared; ++i) least_[i] = roundings[i % lanes_].least;
  fill_table(roundings);
}

void MachFilter::fill_table(const Rounding* roundings) {
  constexpr int64_t kPiece = 64;  // buckets, so that a piece of all lanes is in the nearest cache
  const int64_t buckets = scorer_.map().buckets();
  const int64_t pieces = (buckets + kPiece - 1) / kPiece;
  kernels::for_each_range(
      kernels::TbbPolicy{}, scorer_.map().places() * pieces,
      kernels::kBlockElements / (kPiece * lanes_), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t from = i % pieces * kPiece;
          fill_buckets(roundings, i / pieces, {from, std::min(kPiece, buckets - from)});
        }
      });
}

// Comparisons are such that NaN becomes 0.
void MachFilter::round_up(const Rounding& rounding, const float* values, int64_t count,
                          uint8_t* out) {
  const float low = rounding.low, inverse = rounding.inverse;
  if (inverse == 0) {
    for (int64_t i = 0; i < count; ++i) out[i] = values[i] > low ? 1 : 0;
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    float q = (values[i] - low) * inverse + 0.9999f;
    q = q > 0.0f ? q : 0.0f;
    q = q < 255.0f ? q : 255.0f;
    out[i] = static_cast<uint8_t>(static_cast<int32_t>(q));
  }
}

void MachFilter::fill_buckets(const Rounding* roundings, int64_t place, IndexRange buckets) {
  uint8_t* const first = table_.data() + (place * scorer_.map().buckets() + buckets.begin) * lanes_;
  uint8_t column[64];
  for (int64_t lane = 0; lane < lanes_; ++lane) {
    if (lane >= count_) {
      std::fill_n(column, buckets.count, uint8_t{0});
    } else {
      round_up(roundings[lane], scorer_.values(place, query(lane)) + buckets.begin, buckets.count,
               column);
    }
    uint8_t* const out = first + byte_of_lane(lane, lanes_);
    for (int64_t b = 0; b < buckets.count; ++b) out[b * lanes_] = column[b];
  }
}

int64_t MachFilter::classes_at_once() const {
  return std::min(kSums / lanes_, kHashes / scorer_.map().places());
}

void MachFilter::add_up(const int32_t* hashes, int64_t classes, uint16_t* sums) const {
  const Table table{table_.data(), scorer_.map().places(), scorer_.map().buckets() * lanes_};
  if (lanes_ == 1) {
    add_up_singles(table, hashes, classes, sums);
  } else if (lanes_ == 16) {
    add_up_lines<16>(table, hashes, classes, sums);
  } else {
    add_up_lines<64>(table, hashes, classes, sums);
  }
}

bool MachFilter::any_reaches(const uint16_t* sums) const {
  uint16_t any = 0;
  for (int64_t i = 0; i < kCompared; ++i) {
    any = static_cast<uint16_t>(any | (sums[i] >= least_[i] ? 1 : 0));
  }
  return any != 0;
}

}  // namespace sketchgrad
