#include "sketchgrad/layers/mach_map.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/philox.h"

namespace sketchgrad {

namespace {

// Keeps these draws apart from all others of the same seed.
constexpr uint64_t kMachDraws = uint64_t{0x4D414348} << 32;
constexpr int32_t kWordsOfDraw = 4;

void check_options(const std::string& name, const std::vector<int32_t>& repetitions,
                   const MachMapOptions& options) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check(options.classes >= 1 && options.classes <= kMost, "[{}] a map of {} classes", name,
        options.classes);
  check(options.buckets >= 1 && options.buckets <= kMost, "[{}] a map to {} buckets", name,
        options.buckets);
  check(!repetitions.empty(), "[{}] a map without repetitions", name);
  std::vector<int32_t> sorted = repetitions;
  std::sort(sorted.begin(), sorted.end());
  check(sorted.front() >= 0, "[{}] repetition {}, they count from 0", name, sorted.front());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  check(twice == sorted.end(), "[{}] repetition {} is there twice", name,
        twice == sorted.end() ? 0 : *twice);
}

kernels::Philox4 draw(uint64_t seed, uint64_t group, int64_t class_id) {
  return kernels::philox(seed, kMachDraws | group, static_cast<uint64_t>(class_id));
}

int32_t bucket_of_word(uint32_t word, int64_t buckets) {
  return static_cast<int32_t>((uint64_t{word} * static_cast<uint64_t>(buckets)) >> 32);
}

}  // namespace

MachMap::MachMap(const std::string& name, std::vector<int32_t> repetitions,
                 const MachMapOptions& options)
    : name_(name), repetitions_(std::move(repetitions)), options_(options) {
  check_options(name_, repetitions_, options_);
  for (int64_t place = 0; place < places(); ++place) {
    const int32_t number = repetitions_[static_cast<size_t>(place)];
    const auto group = static_cast<uint64_t>(number / kWordsOfDraw);
    auto at = std::find_if(draws_.begin(), draws_.end(),
                           [&](const Draw& one) { return one.group == group; });
    if (at == draws_.end()) at = draws_.insert(at, Draw{group, {}});
    at->words.push_back({place, number % kWordsOfDraw});
  }
  if (!options_.stored) return;
  stored_ =
      Tensor::empty({classes(), places()}, {Category::index, name_ + ".buckets"}, DType::int32);
  int32_t* const all = stored_.data<int32_t>();
  all_ = all;
  kernels::for_each_range(
      kernels::TbbPolicy{}, classes(), kernels::kBlockElements / places(),
      [&](int64_t begin, int64_t end) { compute(begin, end - begin, all + begin * places()); });
}

int32_t MachMap::computed_bucket(int64_t place, int64_t class_id) const {
  const int32_t number = repetitions_[static_cast<size_t>(place)];
  const auto group = static_cast<uint64_t>(number / kWordsOfDraw);
  return bucket_of_word(draw(options_.seed, group, class_id).v[number % kWordsOfDraw], buckets());
}

void MachMap::buckets_of_class(int64_t class_id, int32_t* out) const {
  if (options_.stored) {
    std::copy_n(row(class_id), places(), out);
  } else {
    compute(class_id, 1, out);
  }
}

const int32_t* MachMap::buckets_of_classes(int64_t begin, int64_t count, int32_t* room) const {
  if (options_.stored) return row(begin);
  compute(begin, count, room);
  return room;
}

void MachMap::buckets_of_place(int64_t place, int64_t begin, int64_t count, int32_t* out) const {
  if (options_.stored) {
    const int32_t* const from = row(begin) + place;
    for (int64_t i = 0; i < count; ++i) out[i] = from[i * places()];
    return;
  }
  const int32_t number = repetitions_[static_cast<size_t>(place)];
  const auto group = static_cast<uint64_t>(number / kWordsOfDraw);
  const int word = number % kWordsOfDraw;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = bucket_of_word(draw(options_.seed, group, begin + i).v[word], buckets());
  }
}

void MachMap::compute(int64_t begin, int64_t count, int32_t* out) const {
  constexpr int64_t kAtOnce = 64;
  uint32_t words[kWordsOfDraw][kAtOnce];
  for (int64_t done = 0; done < count; done += kAtOnce) {
    const int64_t part = std::min(kAtOnce, count - done);
    int32_t* const rows = out + done * places();
    for (const Draw& one : draws_) {
      const uint64_t seed = options_.seed, group = one.group;
#pragma omp simd
      for (int64_t i = 0; i < part; ++i) {
        const kernels::Philox4 bits = draw(seed, group, begin + done + i);
        words[0][i] = bits.v[0];
        words[1][i] = bits.v[1];
        words[2][i] = bits.v[2];
        words[3][i] = bits.v[3];
      }
      for (const Draw::Word& word : one.words) {
        const uint32_t* const from = words[word.word];
        for (int64_t i = 0; i < part; ++i) {
          rows[i * places() + word.place] = bucket_of_word(from[i], buckets());
        }
      }
    }
  }
}

}  // namespace sketchgrad
