#include "sketchgrad/layers/best_classes.h"

#include <algorithm>

#include "sketchgrad/kernels/for_each.h"

namespace sketchgrad {

BestClasses::BestClasses(int64_t tokens, int64_t k)
    : tokens_(tokens), k_(k), entries_(exec_on(kCpu), tokens * k, "top_k.entries") {}

bool BestClasses::better(const Entry& a, const Entry& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

void BestClasses::see(const Tensor& logits, IndexRange tokens, IndexRange classes) {
  const Tensor host = logits.to(kCpu, {Category::workspace, "top_k.logits"});
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

TopK BestClasses::result(const Tensor& log_sums, const std::string& name, Device device) {
  sort_entries();
  const std::string full_name = name + ".top_k";
  const Purpose purpose{Category::data, full_name};
  const Tensor ids = Tensor::empty({tokens_, k_}, purpose, DType::int32);
  const Tensor scores = Tensor::empty({tokens_, k_}, purpose);
  const float* const log_sum = log_sums.data<float>();
  int32_t* const id = ids.data<int32_t>();
  float* const score = scores.data<float>();
  for (int64_t i = 0; i < tokens_ * k_; ++i) {
    id[i] = entries_[i].id;
    score[i] = entries_[i].logit - log_sum[i / k_];
  }
  return {ids.to(device, purpose), scores.to(device, purpose)};
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
