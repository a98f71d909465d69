#include "sketchgrad/layers/lsh_softmax.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "sketchgrad/framework/memory_trace.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/layers/output_checks.h"

namespace sketchgrad {

namespace {

constexpr int64_t kRecallTokens = 32;
constexpr int64_t kRecallAt = 10;
void check_options(const std::string& name, const LshSoftmaxOptions& options) {
  check(options.active >= 1, "[{}] {} active rows, at least 1 is needed", name, options.active);
  check(options.rebuild_every >= 1, "[{}] an index every {} steps", name, options.rebuild_every);
  check(options.tail_samples >= 0, "[{}] {} samples of the tail", name, options.tail_samples);
  check(options.recall_every >= 0, "[{}] recall every {} steps", name, options.recall_every);
  check(!options.importance || options.index.hash == LshHash::simhash,
        "[{}] collision probabilities are known for simhash only", name);
}

// The rows with the most hits, those of smaller id first, increasing.
std::vector<int32_t> most_hit(const LshIndex::Hits& hits, int64_t limit) {
  std::vector<int32_t> places(hits.rows.size());
  std::iota(places.begin(), places.end(), 0);
  if (static_cast<int64_t>(places.size()) > limit) {
    const auto more = [&](int32_t a, int32_t b) {
      const int32_t hits_a = hits.counts[static_cast<size_t>(a)];
      const int32_t hits_b = hits.counts[static_cast<size_t>(b)];
      return hits_a != hits_b ? hits_a > hits_b : a < b;
    };
    std::nth_element(places.begin(), places.begin() + limit, places.end(), more);
    places.resize(static_cast<size_t>(limit));
    std::sort(places.begin(), places.end());
  }
  for (int32_t& place : places) place = hits.rows[static_cast<size_t>(place)];
  return places;
}

// How many rows a trace finds is not known: with fewer of them, a chunk of logits has more tokens,
// so the most memory need not go with the most rows. Each step takes another share.
int64_t traced_rows(int64_t active, int64_t step) {
  constexpr int64_t kEighths[] = {8, 4, 6, 2, 7, 5, 3, 1};
  return active * kEighths[(step - 1) % std::ssize(kEighths)] / 8;
}

void check_last_ids(const std::string& source, const std::string& name, const Tensor& ids,
                    int64_t classes) {
  const bool fits =
      ids.dtype() == DType::int32 &&
      kernels::find_out_of_range(ids.exec(), ids.data<int32_t>(), ids.numel(), classes) < 0 &&
      kernels::find_not_increasing(ids.exec(), ids.data<int32_t>(), ids.numel()) < 0;
  if (!fits) {
    throw DataError(source, 0,
                    fmt::format("{} holds no increasing ids of {} classes", name, classes));
  }
}

// Each row with probability `share`.
std::vector<int32_t> thinned(const std::vector<int32_t>& rows, double share,
                             kernels::PhiloxKey key) {
  std::vector<int32_t> kept;
  for (const int32_t row : rows) {
    const double place =
        static_cast<double>(kernels::philox_bits(key, static_cast<uint64_t>(row))) * 0x1p-32;
    if (place < share) kept.push_back(row);
  }
  return kept;
}

}  // namespace

LshSoftmax::LshSoftmax(const std::string& name, const LshSoftmaxOptions& options, Rng& rng,
                       Parameter* tied, Device device)
    : name_(name),
      options_(options),
      rng_(rng),
      full_(name, options.softmax, rng, tied, device),
      index_(name + ".index", options.softmax.classes, options.softmax.input, options.index,
             device) {
  check_options(name, options);
  add_child(full_);
  if (options.tail_samples > 0 && !options.importance) {
    tail_.emplace(name, options.softmax.classes,
                  ClassSamplerOptions{.samples = options.tail_samples});
  }
}

void LshSoftmax::refresh_index() {
  if (!index_.built() || steps_ % options_.rebuild_every == 0) {
    const auto start = std::chrono::steady_clock::now();
    index_.rebuild(weight().value, rng_.next());
    rebuild_seconds_ =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } else if (options_.incremental && last_ids_.defined()) {
    index_.update(weight().value, last_ids_);
  }
  ++steps_;
}

// The rows of most buckets, each for itself alone; with them, of a sample of all, those that stand
// for what has not been found.
ClassSample LshSoftmax::negatives_of(const LshIndex::Hits& hits) {
  const std::vector<int32_t> found = most_hit(
      hits, MemoryTrace::active() ? traced_rows(options_.active, steps_) : options_.active);
  std::vector<int32_t> ids = found;
  std::vector<float> offsets(found.size(), 0.0f);
  if (tail_) {
    const ClassSample sample = tail_->draw(rng_.next());
    ids.clear();
    offsets.clear();
    const int32_t* const drawn = sample.ids.data<int32_t>();
    int64_t i = 0;
    const auto add_drawn_below = [&](int64_t limit) {
      for (; i < sample.ids.numel() && drawn[i] < limit; ++i) {
        ids.push_back(drawn[i]);
        offsets.push_back(sample.log_expected.data<float>()[i]);
      }
    };
    for (const int32_t row : found) {
      add_drawn_below(row);
      if (i < sample.ids.numel() && drawn[i] == row) ++i;
      ids.push_back(row);
      offsets.push_back(0.0f);
    }
    add_drawn_below(classes());
  }
  const auto count = static_cast<int64_t>(ids.size());
  return {Tensor::from(ids, {count}, {Category::index, name_ + ".negatives"}),
          Tensor::from(offsets, {count}, {Category::workspace, name_ + ".offsets"})};
}

Candidates LshSoftmax::find_candidates(const Tensor& x, const Tensor& targets) {
  const Tensor codes = index_.codes(x);
  const LshIndex::Hits hits = index_.find(codes);
  found_ = static_cast<double>(hits.rows.size());
  const auto no_offset = [](int32_t) { return 0.0f; };
  if (!options_.importance) {
    const ClassSample negatives = negatives_of(hits);
    return with_targets(name_, negatives.ids, negatives.log_expected, targets, classes(),
                        no_offset);
  }
  const double share = std::min(1.0, static_cast<double>(options_.active) / std::max(1.0, found_));
  const std::vector<int32_t> rows = thinned(hits.rows, share, rng_.next());
  const auto count = static_cast<int64_t>(rows.size());
  const Tensor ids = Tensor::from(rows, {count}, {Category::index, name_ + ".negatives"});
  const Tensor offsets = Tensor::zeros({count}, {Category::workspace, name_ + ".offsets"});
  Candidates candidates = with_targets(name_, ids, offsets, targets, classes(), no_offset);
  candidates.collisions = {options_.index.tables, options_.index.bits, codes,
                           index_.row_codes(candidates.ids), static_cast<float>(std::log(share))};
  return candidates;
}

void LshSoftmax::measure_recall(const Tensor& x, const Tensor& ids) {
  const Tensor features = x.reshape({-1, options_.softmax.input});
  const int64_t tokens = std::min(kRecallTokens, features.size(0));
  const int64_t k = std::min(kRecallAt, classes());
  if (tokens == 0) return;
  const auto best = full_.top_k(features.rows(0, tokens), k).ids.to_vector<int32_t>();
  const int32_t* const begin = ids.data<int32_t>();
  const auto found = std::count_if(best.begin(), best.end(), [&](int32_t id) {
    return std::binary_search(begin, begin + ids.numel(), id);
  });
  recall_ = static_cast<double>(found) / static_cast<double>(best.size());
}

Variable LshSoftmax::loss(Tape& tape, const Variable& x, const Tensor& targets) {
  if (!training()) return full_.loss(tape, x, targets);
  const MemoryScope scope(name_);
  const HostTargets here =
      check_targets_on_cpu(name_, x.value, options_.softmax.input, targets, classes());
  // On an index as old as it gets.
  const bool measure = options_.recall_every > 0 && (steps_ + 1) % options_.recall_every == 0;
  refresh_index();
  const Candidates candidates = find_candidates(x.value, here.ids);
  active_ = static_cast<double>(candidates.ids.numel());
  if (options_.incremental) last_ids_ = candidates.ids.clone({Category::index, name_ + ".last"});
  if (measure) measure_recall(x.value, candidates.ids);
  return candidate_softmax_loss(tape, name_, x, weight(), bias(), candidates, here.count,
                                options_.softmax.chunk_bytes);
}

std::vector<std::pair<std::string, double>> LshSoftmax::statistics() const {
  std::vector<std::pair<std::string, double>> result = {
      {"lsh_active", active_}, {"lsh_found", found_}, {"lsh_rebuild_seconds", rebuild_seconds_}};
  if (recall_ >= 0) result.emplace_back("lsh_recall_at_10", recall_);
  return result;
}

void LshSoftmax::save_state(StateDict& state) const {
  const std::string prefix = name_ + ".lsh.";
  state.set_integer(prefix + "steps", steps_);
  if (last_ids_.defined()) state.tensors[prefix + "last_ids"] = last_ids_;
  index_.save(state, prefix);
}

void LshSoftmax::load_state(const StateDict& state) {
  const std::string prefix = name_ + ".lsh.";
  steps_ = state.integer(prefix + "steps");
  const auto last = state.tensors.find(prefix + "last_ids");
  if (last != state.tensors.end()) {
    check_last_ids(state.source, prefix + "last_ids", last->second, classes());
    last_ids_ = last->second.clone({Category::index, name_ + ".last"});
  }
  index_.load(state, prefix);
}

}  // namespace sketchgrad
