#include "sketchgrad/layers/multi_label_output.h"

#include <algorithm>
#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/multi_label.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/output_checks.h"
#include "sketchgrad/layers/softmax_loss.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

Shape weight_shape(const std::string& name, const MultiLabelOptions& options) {
  check(options.input > 0 && options.classes > 0,
        "[{}] {} inputs and {} classes, both must be at least 1", name, options.input,
        options.classes);
  check(options.chunk_bytes >= static_cast<int64_t>(sizeof(float)),
        "[{}] chunk_bytes is {}, a chunk holds one logit at least", name, options.chunk_bytes);
  return {options.classes, options.input};
}

// The labels of a softmax share the weight 1 of their token.
Tensor shares_of_labels(const std::string& name, const SparseRows& labels) {
  const Tensor shares = Tensor::empty({labels.entries()}, {Category::index, name + ".shares"});
  const int32_t* const begin = labels.begin.data<int32_t>();
  for (int64_t t = 0; t < labels.rows(); ++t) {
    std::fill(shares.data<float>() + begin[t], shares.data<float>() + begin[t + 1],
              1.0f / static_cast<float>(begin[t + 1] - begin[t]));
  }
  return shares;
}

// 0, or kIgnoredTarget for tokens without a label. A softmax is told that its targets are none of
// the chunk's classes, since labels are seen to apart.
Tensor targets_for_softmax(const std::string& name, const SparseRows& labels) {
  const Tensor targets =
      Tensor::empty({labels.rows()}, {Category::index, name + ".targets"}, DType::int32);
  const int32_t* const begin = labels.begin.data<int32_t>();
  for (int64_t t = 0; t < labels.rows(); ++t) {
    targets.data<int32_t>()[t] = begin[t] == begin[t + 1] ? kernels::kIgnoredTarget : 0;
  }
  return targets;
}

// The walk over the tokens of one call, a chunk of logits at a time.
class Walk {
 public:
  Walk(const std::string& name, const MultiLabelOptions& options, const Tensor& x,
       const Tensor& weight, const float* bias)
      : name_(name),
        options_(options),
        x_(x),
        exec_(x.exec()),
        weight_(weight),
        bias_(bias),
        tokens_(x.numel() / options.input),
        max_(workspace(".max", {tokens_})),
        sum_(workspace(".sum", {tokens_})),
        target_(workspace(".target", {tokens_})),
        losses_(workspace(".losses", {tokens_})) {}

  // f(tokens, chunk) for chunks of logits without bias, of even size.
  template <class F>
  void for_each_chunk(const F& f) const {
    const int64_t row_bytes = options_.classes * static_cast<int64_t>(sizeof(float));
    const int64_t most = std::max<int64_t>(options_.chunk_bytes / row_bytes, 1);
    const int64_t blocks = (tokens_ + most - 1) / most;
    if (blocks == 0) return;
    const int64_t block = (tokens_ + blocks - 1) / blocks;
    const Tensor logits = workspace(".logits", {block, options_.classes});
    for (int64_t begin = 0; begin < tokens_; begin += block) {
      const IndexRange tokens{begin, std::min(block, tokens_ - begin)};
      const Tensor chunk = logits.rows(0, tokens.count);
      multiply(tokens, chunk);
      f(tokens, chunk);
    }
  }

  void multiply(IndexRange tokens, const Tensor& logits) const {
    kernels::gemm(exec_, Transpose::no, Transpose::yes, 1.0f, x_rows(tokens), weight_.matrix(),
                  0.0f, logits.matrix());
  }

  // logits -> scale * softmax or sigmoid, in place; 0 for tokens whose target is kIgnoredTarget.
  // Writes the losses of tokens whose labels have been taken.
  void turn_into_probabilities(IndexRange tokens, const Tensor& logits, const int32_t* targets,
                               float scale) const {
    if (options_.loss == MultiLabelLoss::sigmoid) {
      kernels::sigmoid_cross_entropy(exec_, logits.matrix(), bias_, scale, at(sum_, tokens));
      return;
    }
    const kernels::OnlineSoftmax state{at(max_, tokens), at(sum_, tokens), at(target_, tokens)};
    const int64_t behind = options_.classes;
    kernels::online_softmax_update(exec_, logits.matrix(), bias_, behind, targets, state);
    kernels::online_softmax_losses(exec_, state, targets, tokens.count, at(losses_, tokens));
    kernels::softmax_cross_entropy_gradient(exec_, logits.matrix(), nullptr, behind, targets, state,
                                            scale);
  }

  void begin_softmax() const {
    kernels::online_softmax_begin(
        exec_, {max_.data<float>(), sum_.data<float>(), target_.data<float>()}, tokens_);
  }
  void take_labels(IndexRange tokens, const Tensor& logits,
                   const kernels::CsrMatrix& labels) const {
    kernels::take_label_logits(exec_, logits.matrix(), bias_, labels, at(target_, tokens));
  }

  kernels::ConstMatrix x_rows(IndexRange tokens) const {
    return x_.matrix().row_range(tokens.begin, tokens.count);
  }
  // Of all tokens, once all chunks have been walked.
  Tensor losses() const {
    if (options_.loss == MultiLabelLoss::softmax) return losses_;
    kernels::copy(exec_, sum_.data<float>(), losses_.data<float>(), tokens_);
    kernels::add_scaled(exec_, target_.data<float>(), -1.0f, losses_.data<float>(), tokens_);
    return losses_;
  }

 private:
  Tensor workspace(const char* what, const Shape& shape) const {
    return Tensor::empty(shape, {Category::workspace, name_ + what}, DType::float32, x_.device());
  }
  static float* at(const Tensor& tensor, IndexRange tokens) {
    return tensor.data<float>() + tokens.begin;
  }

  std::string name_;
  MultiLabelOptions options_;
  Tensor x_;
  kernels::Exec exec_;
  Tensor weight_;
  const float* bias_;
  int64_t tokens_;
  Tensor max_, sum_, target_, losses_;
};

kernels::CsrMatrix rows_of(const kernels::CsrMatrix& labels, IndexRange tokens) {
  return {tokens.count, labels.begin + tokens.begin, labels.columns, labels.values};
}

}  // namespace

int64_t rows_of_mean(MultiLabelLoss loss, const SparseRows& labels) {
  if (loss == MultiLabelLoss::sigmoid) return labels.rows();
  int64_t count = 0;
  const int32_t* const begin = labels.begin.data<int32_t>();
  for (int64_t t = 0; t < labels.rows(); ++t) count += begin[t] < begin[t + 1] ? 1 : 0;
  return count;
}

MultiLabelOutput::MultiLabelOutput(const std::string& name, const MultiLabelOptions& options,
                                   Rng& rng, Device device)
    : name_(name),
      options_(options),
      weight_(add_parameter(name + ".weight", weight_shape(name, options), device)) {
  init_uniform(weight_, rng, -options.init_range, options.init_range);
  if (options.bias) bias_ = &add_parameter(name + ".bias", {options.classes}, device);
}

Variable MultiLabelOutput::loss(Tape& tape, const Variable& x, const SparseRows& labels) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x.value, options_.input);
  check_sparse_rows(name_, labels, options_.classes);
  check(labels.rows() == tokens, "[{}] labels of {} tokens for {}", name_, labels.rows(), tokens);
  check(!labels.values.defined(), "[{}] labels must have no values", name_);
  const bool softmax = options_.loss == MultiLabelLoss::softmax;
  const double scale = share_of_mean(rows_of_mean(options_.loss, labels));

  const Device device = x.value.device();
  SparseRows there = labels.to(name_ + ".labels", device);
  if (softmax) {
    there.values = shares_of_labels(name_, labels).to(device, {Category::index, name_ + ".shares"});
  }
  const Tensor targets =
      targets_for_softmax(name_, labels).to(device, {Category::index, name_ + ".targets"});

  SoftmaxGradients gradients;
  if (tape.recording()) {
    gradients = make_gradients(name_, x.value, {weight_.value, bias_ ? bias_->value : Tensor()},
                               x.needs_gradient());
  }
  const Walk walk(name_, options_, x.value, weight_.value, bias_data());
  walk.begin_softmax();
  walk.for_each_chunk([&](IndexRange range, const Tensor& chunk) {
    const kernels::CsrMatrix chunk_labels = rows_of(there.csr(), range);
    walk.take_labels(range, chunk, chunk_labels);
    walk.turn_into_probabilities(range, chunk, targets.data<int32_t>() + range.begin,
                                 static_cast<float>(scale));
    if (!tape.recording()) return;
    kernels::subtract_labels(chunk.exec(), chunk_labels, static_cast<float>(scale), chunk.matrix());
    add_chunk(chunk, walk.x_rows(range), weight_.value.matrix(), range, {0, options_.classes},
              gradients);
  });
  const Variable weight = tape.leaf(weight_);
  const Variable bias = bias_ == nullptr ? Variable() : tape.leaf(*bias_);
  return tape.record(
      name_, scaled_total(walk.losses(), scale, name_), {&x, &weight, &bias},
      [x = x.place(), weight = weight.place(), bias = bias.place(),
       gradients = std::move(gradients)](Tape& t, const Tensor& grad_output) mutable {
        hand_over(t, grad_output, x, weight, bias, std::move(gradients));
      });
}

Tensor MultiLabelOutput::probabilities(const Tensor& x) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x, options_.input);
  const Tensor result =
      Tensor::empty({tokens, options_.classes}, {Category::data, name_ + ".probabilities"},
                    DType::float32, x.device());
  const Tensor targets =
      Tensor::empty({tokens}, {Category::index, name_ + ".targets"}, DType::int32);
  std::fill_n(targets.data<int32_t>(), tokens, 0);
  const Tensor there = targets.to(x.device(), {Category::index, name_ + ".targets"});
  const Walk walk(name_, options_, x, weight_.value, bias_data());
  walk.begin_softmax();
  walk.multiply({0, tokens}, result);
  walk.turn_into_probabilities({0, tokens}, result, there.data<int32_t>(), 1.0f);
  return result;
}

}  // namespace sketchgrad
