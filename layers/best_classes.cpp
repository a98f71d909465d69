#include "sketchgrad/layers/best_classes.h"

#include <algorithm>

#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad {

namespace {

Tensor on_cpu(const Tensor& tensor) {
  if (tensor.device() == kCpu) return tensor;
  const Tensor copy = Tensor::empty(tensor.shape(), {Category::workspace, "top_k.logits"});
  copy.copy_from(tensor);
  return copy;
}

}  // namespace

BestClasses::BestClasses(int64_t tokens, int64_t k)
    : tokens_(tokens), k_(k), entries_(static_cast<size_t>(tokens * k)) {}

bool BestClasses::better(const Entry& a, const Entry& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

void BestClasses::see(const Tensor& logits, IndexRange tokens, IndexRange classes) {
  const Tensor host = on_cpu(logits);
  const kernels::ConstMatrix chunk = host.matrix();
  const int64_t grain = kernels::kBlockElements / classes.count;
  kernels::for_each_range(
      kernels::TbbPolicy{}, tokens.count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          for (int64_t c = 0; c < classes.count; ++c) {
            insert(tokens.begin + t, static_cast<int32_t>(classes.begin + c), chunk(t, c));
          }
        }
      });
}

TopK BestClasses::result(const std::vector<float>& log_sums, const std::string& name,
                         Device device) {
  sort_entries();
  std::vector<int32_t> ids(entries_.size());
  std::vector<float> scores(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    ids[i] = entries_[i].id;
    scores[i] = entries_[i].logit - log_sums[i / static_cast<size_t>(k_)];
  }
  const std::string full_name = name + ".top_k";
  const Purpose purpose{Category::data, full_name};
  return {Tensor::from(ids, {tokens_, k_}, purpose, device),
          Tensor::from(scores, {tokens_, k_}, purpose, device)};
}

void BestClasses::insert(int64_t token, int32_t id, float logit) {
  Entry* const begin = entries_.data() + token * k_;
  Entry* const end = begin + k_;
  if (id < k_) {  // as many have been seen before
    begin[id] = {logit, id};
    if (id == k_ - 1) std::make_heap(begin, end, better);
    return;
  }
  if (!(logit > begin->logit)) return;
  std::pop_heap(begin, end, better);
  end[-1] = {logit, id};
  std::push_heap(begin, end, better);
}

void BestClasses::sort_entries() {
  const int64_t grain = kernels::kBlockElements / k_;
  kernels::for_each_range(kernels::TbbPolicy{}, tokens_, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      // Unlike std::sort it stays within its range where logits are NaN.
      std::sort_heap(entries_.data() + t * k_, entries_.data() + (t + 1) * k_, better);
    }
  });
}

}  // namespace sketchgrad
