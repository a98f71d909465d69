#include "sketchgrad/layers/best_classes.h"

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
    : tokens_(tokens),
      k_(k),
      ids_(static_cast<size_t>(tokens * k)),
      logits_(static_cast<size_t>(tokens * k)) {}

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
  for (size_t i = 0; i < logits_.size(); ++i) logits_[i] -= log_sums[i / static_cast<size_t>(k_)];
  const std::string full_name = name + ".top_k";
  const Purpose purpose{Category::data, full_name};
  return {Tensor::from(ids_, {tokens_, k_}, purpose, device),
          Tensor::from(logits_, {tokens_, k_}, purpose, device)};
}

void BestClasses::insert(int64_t token, int32_t id, float logit) {
  int32_t* const ids = ids_.data() + token * k_;
  float* const logits = logits_.data() + token * k_;
  int64_t place = id;  // as many have been seen before
  if (place >= k_) {
    place = k_ - 1;
    if (!(logit > logits[place])) return;
  }
  for (; place > 0 && logit > logits[place - 1]; --place) {
    ids[place] = ids[place - 1];
    logits[place] = logits[place - 1];
  }
  ids[place] = id;
  logits[place] = logit;
}

}  // namespace sketchgrad
