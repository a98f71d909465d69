#include "sketchgrad/layers/mach.h"

#include <algorithm>

#include "sketchgrad/framework/ops.h"

namespace sketchgrad {

namespace {

// Labels as buckets of one repetition. Where `once`, a bucket stands once in a row, and buckets are
// in ascending order.
SparseRows buckets_of_labels(const std::string& name, const MachMap& map, int64_t place,
                             const SparseRows& labels, bool once) {
  const auto array = [&](int64_t count) {
    return Tensor::empty({count}, {Category::index, name + ".buckets"}, DType::int32);
  };
  SparseRows result{array(labels.rows() + 1), array(labels.entries()), {}};
  const int32_t* const begin = labels.begin.data<int32_t>();
  const int32_t* const label = labels.columns.data<int32_t>();
  int32_t* const bucket = result.columns.data<int32_t>();
  int32_t* const bucket_begin = result.begin.data<int32_t>();
  int32_t* end = bucket;
  for (int64_t t = 0; t < labels.rows(); ++t) {
    bucket_begin[t] = static_cast<int32_t>(end - bucket);
    int32_t* const first = end;
    for (int32_t i = begin[t]; i < begin[t + 1]; ++i) *end++ = map.bucket(place, label[i]);
    if (!once) continue;
    std::sort(first, end);
    end = std::unique(first, end);
  }
  bucket_begin[labels.rows()] = static_cast<int32_t>(end - bucket);
  result.columns = result.columns.rows(0, end - bucket);
  return result;
}

}  // namespace

Rng mach_rng(uint64_t seed, int32_t repetition, uint32_t stream) {
  // A layer draws less than 2^24 times.
  return Rng(seed, (uint64_t{stream} << 56) + (static_cast<uint64_t>(repetition) << 24));
}

Mach::Mach(const std::string& name, const MachOptions& options, Device device)
    : name_(name),
      options_(options),
      map_(name, options.repetitions,
           {.classes = options.classes,
            .buckets = options.buckets,
            .seed = options.seed,
            .stored = options.stored_map}) {
  for (const int32_t repetition : options.repetitions) {
    Rng rng = mach_rng(options.seed, repetition, /*stream=*/0);
    heads_.push_back(
        std::make_unique<MultiLabelOutput>(fmt::format("{}.r{}", name, repetition),
                                           MultiLabelOptions{.input = options.input,
                                                             .classes = options.buckets,
                                                             .loss = options.loss,
                                                             .init_range = options.init_range,
                                                             .chunk_bytes = options.chunk_bytes},
                                           rng, device));
    add_child(*heads_.back());
  }
}

void Mach::check_inputs(size_t count) const {
  check(count == 1 || count == heads_.size(),
        "[{}] features for {} repetitions, there must be one tensor or {}", name_, count,
        heads_.size());
}

Variable Mach::loss(Tape& tape, std::span<const Variable> x, const SparseRows& labels) {
  const MemoryScope scope(name_);
  check_inputs(x.size());
  check_sparse_rows(name_, labels, options_.classes);
  Variable total;
  for (int64_t place = 0; place < repetitions(); ++place) {
    const bool once = options_.loss == MultiLabelLoss::sigmoid;
    const Variable one = heads_[static_cast<size_t>(place)]->loss(
        tape, of_place(x, place), buckets_of_labels(name_, map_, place, labels, once));
    total = place == 0 ? one : add(tape, total, one);
  }
  return total;
}

std::vector<Tensor> Mach::probabilities(std::span<const Tensor> x) {
  const MemoryScope scope(name_);
  check_inputs(x.size());
  std::vector<Tensor> result;
  for (int64_t place = 0; place < repetitions(); ++place) {
    result.push_back(heads_[static_cast<size_t>(place)]
                         ->probabilities(of_place(x, place))
                         .to(kCpu, {Category::data, name_ + ".probabilities"}));
  }
  return result;
}

}  // namespace sketchgrad
