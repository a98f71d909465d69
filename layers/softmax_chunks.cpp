#include "sketchgrad/layers/softmax_chunks.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/kernels/gemm.h"

namespace sketchgrad {

namespace {

using kernels::ConstMatrix;
using kernels::Transpose;

// Fewer tokens than this a chunk make thin products, slower than computing logits twice.
constexpr int64_t kMinTokensOfWholeRows = 64;
// Enough tokens to hide the reading of a chunk's weights.
constexpr int64_t kMaxTokensOfSplitRows = 1024;

// [0, total) cut into as few parts as `limit` allows, of equal size but for the last.
std::vector<IndexRange> cut(int64_t total, int64_t limit) {
  if (total == 0) return {};
  const int64_t parts = (total + limit - 1) / limit;
  const int64_t size = (total + parts - 1) / parts;
  std::vector<IndexRange> ranges;
  for (int64_t begin = 0; begin < total; begin += size) {
    ranges.push_back({begin, std::min(size, total - begin)});
  }
  return ranges;
}

}  // namespace

ChunkPlan::ChunkPlan(int64_t token_count, int64_t class_count, int64_t chunk_bytes) {
  const int64_t logits = std::max<int64_t>(chunk_bytes / static_cast<int64_t>(sizeof(float)), 1);
  const int64_t rows = logits / class_count;
  if (rows >= std::min(token_count, kMinTokensOfWholeRows)) {
    tokens = cut(token_count, rows);
    classes = cut(class_count, class_count);
    return;
  }
  const int64_t block = std::min({token_count, kMaxTokensOfSplitRows, logits});
  tokens = cut(token_count, block);
  classes = cut(class_count, logits / block);
}

int64_t ChunkPlan::largest_chunk() const {
  return tokens.empty() ? 0 : tokens.front().count * classes.front().count;
}

Tensor no_targets(int64_t tokens, Device device) {
  const Purpose purpose{Category::workspace, "softmax.no_targets"};
  const Tensor targets = Tensor::empty({tokens}, purpose, DType::int32);
  std::fill_n(targets.data<int32_t>(), tokens, kernels::kIgnoredTarget);
  return targets.to(device, purpose);
}

SoftmaxChunks::SoftmaxChunks(const std::string& name, const Tensor& x, const Tensor& weight,
                             const Tensor& bias, const Tensor& targets, int64_t chunk_bytes)
    : name_(name),
      exec_(x.exec()),
      x_(x),
      weight_(weight),
      bias_(bias),
      targets_(targets),
      plan_(x.matrix().rows, weight.size(0), chunk_bytes),
      chunk_(workspace("logits", plan_.largest_chunk())),
      max_(workspace("max", targets.numel())),
      sum_(workspace("sum", targets.numel())),
      target_logit_(workspace("target_logit", targets.numel())) {
  kernels::online_softmax_begin(exec_, online(0), targets.numel());
}

ConstMatrix SoftmaxChunks::x_rows(IndexRange tokens) const {
  return x_.matrix().row_range(tokens.begin, tokens.count);
}

ConstMatrix SoftmaxChunks::weight_rows(IndexRange classes) const {
  return weight_.matrix().row_range(classes.begin, classes.count);
}

Tensor SoftmaxChunks::see(IndexRange tokens, IndexRange classes) const {
  const Tensor chunk = logits_without_bias(tokens, classes);
  kernels::online_softmax_update(exec_, chunk.matrix(), bias(classes), classes.begin,
                                 targets(tokens), online(tokens.begin));
  return chunk;
}

void SoftmaxChunks::see_all() const {
  for (const IndexRange classes : plan_.classes) {
    for (const IndexRange tokens : plan_.tokens) see(tokens, classes);
  }
}

Tensor SoftmaxChunks::gradient(IndexRange tokens, IndexRange classes, float scale) const {
  const bool holds_bias = plan_.whole_rows();
  const Tensor chunk = holds_bias ? see(tokens, classes) : logits_without_bias(tokens, classes);
  kernels::softmax_cross_entropy_gradient(exec_, chunk.matrix(),
                                          holds_bias ? nullptr : bias(classes), classes.begin,
                                          targets(tokens), online(tokens.begin), scale);
  return chunk;
}

Tensor SoftmaxChunks::losses(Purpose purpose) const {
  const int64_t tokens = targets_.numel();
  const Tensor result = Tensor::empty({tokens}, purpose, DType::float32, x_.device());
  kernels::online_softmax_losses(exec_, online(0), targets_.data<int32_t>(), tokens,
                                 result.data<float>());
  return result;
}

Tensor SoftmaxChunks::log_sums() const {
  const auto on_cpu = [this](const Tensor& tensor) {
    const Tensor copy = Tensor::empty(tensor.shape(), {Category::workspace, name_ + ".log_sums"});
    copy.copy_from(tensor);
    return copy;
  };
  const Tensor result = on_cpu(max_);
  const Tensor sums = on_cpu(sum_);
  float* const log_sum = result.data<float>();
  const float* const sum = sums.data<float>();
  for (int64_t t = 0; t < sums.numel(); ++t) log_sum[t] += std::log(sum[t]);
  return result;
}

Tensor SoftmaxChunks::workspace(const char* what, int64_t count) const {
  return Tensor::empty({count}, {Category::workspace, name_ + "." + what}, DType::float32,
                       x_.device());
}

Tensor SoftmaxChunks::logits_without_bias(IndexRange tokens, IndexRange classes) const {
  const Tensor chunk =
      chunk_.rows(0, tokens.count * classes.count).reshape({tokens.count, classes.count});
  kernels::gemm(exec_, Transpose::no, Transpose::yes, 1.0f, x_rows(tokens), weight_rows(classes),
                0.0f, chunk.matrix());
  return chunk;
}

kernels::OnlineSoftmax SoftmaxChunks::online(int64_t token_begin) const {
  return {max_.data<float>() + token_begin, sum_.data<float>() + token_begin,
          target_logit_.data<float>() + token_begin};
}

const float* SoftmaxChunks::bias(IndexRange classes) const {
  return bias_.defined() ? bias_.data<float>() + classes.begin : nullptr;
}

const int32_t* SoftmaxChunks::targets(IndexRange tokens) const {
  return targets_.data<int32_t>() + tokens.begin;
}

}  // namespace sketchgrad
