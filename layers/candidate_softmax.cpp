#include "sketchgrad/layers/candidate_softmax.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/output_checks.h"
#include "sketchgrad/layers/softmax_loss.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

// What lies on the device, and the walk over the tokens in chunks of logits.
class Walk {
 public:
  Walk(const std::string& name, const Tensor& x, const Parameter& weight, const Parameter* bias,
       const Candidates& candidates, int64_t chunk_bytes)
      : name_(name),
        x_(x),
        exec_(x.exec()),
        tokens_(candidates.places.numel()),
        count_(candidates.ids.numel()),
        ids_(there(candidates.ids, Category::index, ".candidates")),
        places_(there(candidates.places, Category::index, ".places")),
        target_offsets_(there(candidates.target_offsets, Category::workspace, ".target_offsets")),
        rows_(workspace(".candidate_rows", {count_, weight.value.size(1)})),
        offsets_(workspace(".negative_bias", {count_})),
        max_(workspace(".max", {tokens_})),
        sum_(workspace(".sum", {tokens_})),
        target_logit_(workspace(".target_logit", {tokens_})) {
    const auto* const id = ids_.data<int32_t>();
    kernels::gather_rows(exec_, weight.value.matrix(), id, -1, rows_.matrix());
    if (candidates.collisions) prepare_collisions(*candidates.collisions);
    const Tensor offsets = there(candidates.offsets, Category::workspace, ".offsets");
    float* const negative = offsets_.data<float>();
    kernels::scale(exec_, offsets.data<float>(), -1.0f, negative, count_);
    if (bias != nullptr) {
      bias_ = workspace(".candidate_bias", {count_});
      const auto column = [](const Tensor& vector) {
        return kernels::contiguous(vector.data<float>(), vector.numel(), 1);
      };
      kernels::gather_rows(exec_, column(bias->value), id, -1, column(bias_));
      kernels::add_scaled(exec_, bias_.data<float>(), 1.0f, negative, count_);
    }
    const int64_t row_bytes = std::max<int64_t>(count_, 1) * static_cast<int64_t>(sizeof(float));
    block_ = std::clamp<int64_t>(chunk_bytes / row_bytes, 1, std::max<int64_t>(tokens_, 1));
    // Of even size, so that the last product is not a thin one.
    const int64_t blocks = (tokens_ + block_ - 1) / block_;
    if (blocks > 0) block_ = (tokens_ + blocks - 1) / blocks;
    chunk_ = workspace(".logits", {std::min(block_, tokens_) * count_});
    kernels::online_softmax_begin(exec_, online(0), tokens_);
  }

  const Tensor& ids() const { return ids_; }

  // f(begin, chunk) for every block of tokens, whose logits have been taken in.
  template <class F>
  void for_each_chunk(const F& f) const {
    for (int64_t begin = 0; begin < tokens_; begin += block_) f(begin, see(begin));
  }

  // Of a chunk that has just been seen: scale * d loss / d logits in its place.
  void turn_into_gradient(int64_t begin, const Tensor& chunk, float scale) const {
    const auto* const places = places_.data<int32_t>() + begin;
    kernels::softmax_cross_entropy_gradient(exec_, chunk.matrix(), nullptr, count_, places,
                                            online(begin), scale);
    kernels::put_target_gradients(exec_, chunk.matrix(), places, online(begin), scale);
  }

  kernels::ConstMatrix x_rows(int64_t begin, int64_t count) const {
    return x_.matrix().row_range(begin, count);
  }
  kernels::ConstMatrix rows() const { return rows_.matrix(); }

  // Of each token.
  Tensor losses() const {
    Tensor result = workspace(".losses", {tokens_});
    kernels::online_softmax_losses(exec_, online(0), places_.data<int32_t>(), tokens_,
                                   result.data<float>());
    return result;
  }

 private:
  Tensor there(const Tensor& here, Category category, const char* what) const {
    return here.to(x_.device(), {category, name_ + what});
  }
  Tensor workspace(const char* what, const Shape& shape) const {
    return Tensor::empty(shape, {Category::workspace, name_ + what}, DType::float32, x_.device());
  }
  kernels::OnlineSoftmax online(int64_t begin) const {
    return {max_.data<float>() + begin, sum_.data<float>() + begin,
            target_logit_.data<float>() + begin};
  }

  void prepare_collisions(const Candidates::Collisions& collisions) {
    const auto norms_of = [&](const Tensor& rows, int64_t count) {
      Tensor norms = workspace(".norms", {count});
      kernels::row_norms(exec_, rows.matrix(), norms.data<float>());
      return norms;
    };
    collisions_ = collisions;
    collisions_->token_codes = there(collisions.token_codes, Category::index, ".token_codes");
    collisions_->row_codes = there(collisions.row_codes, Category::index, ".row_codes");
    token_norms_ = norms_of(x_, tokens_);
    row_norms_ = norms_of(rows_, count_);
  }

  void weigh_collisions(const Tensor& chunk, int64_t begin) const {
    const Candidates::Collisions& of = *collisions_;
    kernels::weigh_collisions(
        exec_, chunk.matrix(),
        {of.tables, of.bits, of.token_codes.data<int32_t>() + begin * of.tables,
         of.row_codes.data<int32_t>(), token_norms_.data<float>() + begin, row_norms_.data<float>(),
         of.log_share});
  }

  Tensor see(int64_t begin) const {
    const int64_t tokens = std::min(block_, tokens_ - begin);
    const Tensor chunk = chunk_.rows(0, tokens * count_).reshape({tokens, count_});
    kernels::gemm(exec_, Transpose::no, Transpose::yes, 1.0f, x_rows(begin, tokens), rows(), 0.0f,
                  chunk.matrix());
    const auto* const places = places_.data<int32_t>() + begin;
    kernels::take_target_logits(exec_, chunk.matrix(),
                                bias_.defined() ? bias_.data<float>() : nullptr, places,
                                target_offsets_.data<float>() + begin, online(begin));
    if (collisions_) weigh_collisions(chunk, begin);
    kernels::online_softmax_update(exec_, chunk.matrix(), offsets_.data<float>(), count_, places,
                                   online(begin));
    kernels::add_target_logits(exec_, places, tokens, online(begin));
    return chunk;
  }

  std::string name_;
  Tensor x_;
  kernels::Exec exec_;
  int64_t tokens_;
  int64_t count_;
  int64_t block_ = 1;
  Tensor ids_, places_, target_offsets_;
  Tensor rows_;
  Tensor bias_;     // as it is; undefined for none
  Tensor offsets_;  // what is added to a negative's logit: its bias less its offset
  Tensor chunk_;
  Tensor max_, sum_, target_logit_;
  std::optional<Candidates::Collisions> collisions_;
  Tensor token_norms_, row_norms_;
};

// With a row of the weight, and an element of the bias, for each candidate.
SoftmaxGradients make_row_gradients(const std::string& name, const Variable& x,
                                    const Parameter& weight, const Parameter* bias,
                                    int64_t candidates) {
  const auto make = [&](const Shape& shape, const std::string& what) {
    return Tensor::empty(shape, {Category::gradient, what}, DType::float32, x.value.device());
  };
  SoftmaxGradients gradients;
  if (x.needs_gradient()) gradients.x = make(x.value.shape(), name + ".grad_x");
  gradients.weight = make({candidates, weight.value.size(1)}, weight.name);
  if (x.value.numel() == 0) gradients.weight.fill(0.0f);
  if (bias != nullptr) {
    gradients.bias = make({candidates, 1}, bias->name);
    gradients.bias.fill(0.0f);
  }
  return gradients;
}

}  // namespace

Variable candidate_softmax_loss(Tape& tape, const std::string& name, const Variable& x,
                                Parameter& weight, Parameter* bias, const Candidates& candidates,
                                int64_t count, int64_t chunk_bytes) {
  const Walk walk(name, x.value, weight, bias, candidates, chunk_bytes);
  const double scale = share_of_mean(count);
  SoftmaxGradients gradients;
  if (tape.recording()) {
    gradients = make_row_gradients(name, x, weight, bias, candidates.ids.numel());
  }
  walk.for_each_chunk([&](int64_t begin, const Tensor& chunk) {
    if (!tape.recording()) return;
    walk.turn_into_gradient(begin, chunk, static_cast<float>(scale));
    add_chunk(chunk, walk.x_rows(begin, chunk.size(0)), walk.rows(), {begin, chunk.size(0)},
              {0, candidates.ids.numel()}, gradients);
  });
  const Variable table = tape.leaf(weight);
  const Variable bias_leaf = bias == nullptr ? Variable() : tape.leaf(*bias);
  return tape.record(
      name, scaled_total(walk.losses(), scale, name), {&x, &table, &bias_leaf},
      [x = x.place(), table = table.place(), bias_leaf = bias_leaf.place(),
       gradients = std::move(gradients), ids = walk.ids(),
       classes = weight.value.size(0)](Tape& t, const Tensor& grad_output) mutable {
        const float seed = t.scalar(grad_output);
        if (seed != 1.0f) gradients.scale(seed);
        const auto rows = [&](Tensor values) {
          return RowSparse{classes, ids, std::move(values), /*coalesced=*/true, /*checked=*/true};
        };
        t.add_gradient(x, std::move(gradients.x));
        t.add_gradient(table, rows(std::move(gradients.weight)));
        if (bias_leaf.needs_gradient()) {
          t.add_gradient(bias_leaf, rows(std::move(gradients.bias)));
        }
      });
}

}  // namespace sketchgrad
