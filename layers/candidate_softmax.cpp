#include "sketchgrad/layers/candidate_softmax.h"

#include <algorithm>
#include <limits>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/output_checks.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

// The tokens of each class that is a target.
struct TargetGroups {
  TargetGroups(const std::string& name, const Tensor& targets, int64_t classes) {
    const int64_t tokens = targets.numel();
    const auto array = [&](const char* what, int64_t size) {
      return Tensor::empty({size}, {Category::index, name + what}, DType::int32);
    };
    keys = array(".target_keys", tokens);
    begin = array(".target_begin", tokens + 1);
    order = array(".target_order", tokens);
    // What has no target becomes a class of its own, behind the others.
    const Tensor shifted = array(".targets", tokens);
    std::replace_copy(targets.data<int32_t>(), targets.data<int32_t>() + tokens,
                      shifted.data<int32_t>(), kernels::kIgnoredTarget,
                      static_cast<int32_t>(classes));
    groups =
        kernels::group_by_key(shifted.exec(), shifted.data<int32_t>(), tokens, classes + 1,
                              keys.data<int32_t>(), begin.data<int32_t>(), order.data<int32_t>());
    count = groups.count;
    if (count > 0 && groups.keys[count - 1] == classes) --count;
  }
  Tensor keys, begin, order;
  kernels::Groups groups;
  int64_t count = 0;  // of real classes
};

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

  // A scalar: scale times the sum of the losses.
  Tensor scaled_loss(double scale) const {
    const Tensor losses = workspace(".losses", {tokens_});
    kernels::online_softmax_losses(exec_, online(0), places_.data<int32_t>(), tokens_,
                                   losses.data<float>());
    const Tensor total =
        Tensor::empty({1}, {Category::activation, name_}, DType::float32, x_.device());
    kernels::scaled_sum(exec_, losses.data<float>(), tokens_, scale, total.data<float>());
    return total;
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

// Of the mean loss; x has none where it needs none.
struct Gradients {
  Tensor x;
  Tensor rows;  // [C, input]
  Tensor bias;  // [C, 1], none without bias

  Gradients(const std::string& name, const Variable& features, const Parameter& weight,
            const Parameter* bias_parameter, int64_t candidates) {
    const auto make = [&](const Shape& shape, const std::string& what) {
      return Tensor::empty(shape, {Category::gradient, what}, DType::float32,
                           features.value.device());
    };
    if (features.needs_gradient()) x = make(features.value.shape(), name + ".grad_x");
    rows = make({candidates, weight.value.size(1)}, weight.name);
    if (features.value.numel() == 0) rows.fill(0.0f);
    if (bias_parameter == nullptr) return;
    bias = make({candidates, 1}, bias_parameter->name);
    bias.fill(0.0f);
  }

  void add_chunk(const Walk& walk, int64_t begin, const Tensor& chunk) const {
    const kernels::Exec exec = chunk.exec();
    const int64_t tokens = chunk.size(0);
    if (x.defined()) {
      kernels::gemm(exec, Transpose::no, Transpose::no, 1.0f, chunk.matrix(), walk.rows(), 0.0f,
                    x.matrix().row_range(begin, tokens));
    }
    kernels::gemm(exec, Transpose::yes, Transpose::no, 1.0f, chunk.matrix(),
                  walk.x_rows(begin, tokens), begin == 0 ? 0.0f : 1.0f, rows.matrix());
    if (bias.defined()) kernels::add_column_sums(exec, chunk.matrix(), bias.data<float>());
  }

  void scale(float factor) const {
    for (const Tensor* gradient : {&x, &rows, &bias}) {
      if (!gradient->defined()) continue;
      float* const data = gradient->data<float>();
      kernels::scale(gradient->exec(), data, factor, data, gradient->numel());
    }
  }
};

}  // namespace

Candidates with_targets(const std::string& name, const Tensor& ids, const Tensor& offsets,
                        const Tensor& targets, int64_t classes,
                        const std::function<float(int32_t)>& target_offset) {
  const TargetGroups groups(name, targets, classes);
  const int64_t tokens = targets.numel(), negatives = ids.numel();
  const int64_t most = negatives + groups.count;
  Candidates result;
  const Tensor merged =
      Tensor::empty({most}, {Category::index, name + ".candidates"}, DType::int32);
  const Tensor merged_offsets = Tensor::empty({most}, {Category::workspace, name + ".offsets"});
  result.places = Tensor::empty({tokens}, {Category::index, name + ".places"}, DType::int32);
  result.target_offsets = Tensor::zeros({tokens}, {Category::workspace, name + ".target_offsets"});
  std::fill_n(result.places.data<int32_t>(), tokens, kernels::kIgnoredTarget);

  int64_t count = 0, negative = 0;
  const auto add = [&](int32_t id, float offset) {
    merged.data<int32_t>()[count] = id;
    merged_offsets.data<float>()[count++] = offset;
  };
  const auto add_negatives_below = [&](int64_t limit) {
    for (; negative < negatives && ids.data<int32_t>()[negative] < limit; ++negative) {
      add(ids.data<int32_t>()[negative], offsets.data<float>()[negative]);
    }
  };
  for (int64_t g = 0; g < groups.count; ++g) {
    const int32_t target = groups.groups.keys[g];
    add_negatives_below(target);
    const int64_t place = count;
    add_negatives_below(int64_t{target} + 1);  // perhaps the target itself
    if (count == place) add(target, std::numeric_limits<float>::infinity());
    const float offset = target_offset(target);
    for (int32_t i = groups.groups.begin[g]; i < groups.groups.begin[g + 1]; ++i) {
      const int32_t token = groups.groups.order[i];
      result.places.data<int32_t>()[token] = static_cast<int32_t>(place);
      result.target_offsets.data<float>()[token] = offset;
    }
  }
  add_negatives_below(classes);
  result.ids = merged.rows(0, count);
  result.offsets = merged_offsets.rows(0, count);
  return result;
}

Variable candidate_softmax_loss(Tape& tape, const std::string& name, const Variable& x,
                                Parameter& weight, Parameter* bias, const Candidates& candidates,
                                int64_t count, int64_t chunk_bytes) {
  const Walk walk(name, x.value, weight, bias, candidates, chunk_bytes);
  const double scale = share_of_mean(count);
  std::shared_ptr<Gradients> gradients;
  if (tape.recording()) {
    gradients = std::make_shared<Gradients>(name, x, weight, bias, candidates.ids.numel());
  }
  walk.for_each_chunk([&](int64_t begin, const Tensor& chunk) {
    if (gradients == nullptr) return;
    walk.turn_into_gradient(begin, chunk, static_cast<float>(scale));
    gradients->add_chunk(walk, begin, chunk);
  });
  const Variable table = tape.leaf(weight);
  const Variable bias_leaf = bias == nullptr ? Variable() : tape.leaf(*bias);
  return tape.record(
      name, walk.scaled_loss(scale), {&x, &table, &bias_leaf},
      [x = x.place(), table = table.place(), bias_leaf = bias_leaf.place(), gradients,
       ids = walk.ids(), classes = weight.value.size(0)](Tape& t, const Tensor& grad_output) {
        const float seed = t.scalar(grad_output);
        if (seed != 1.0f) gradients->scale(seed);
        const auto rows = [&](Tensor values) {
          return RowSparse{classes, ids, std::move(values), /*coalesced=*/true, /*checked=*/true};
        };
        t.add_gradient(x, std::move(gradients->x));
        t.add_gradient(table, rows(std::move(gradients->rows)));
        if (bias_leaf.needs_gradient()) {
          t.add_gradient(bias_leaf, rows(std::move(gradients->bias)));
        }
      });
}

}  // namespace sketchgrad
