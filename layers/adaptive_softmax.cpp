#include "sketchgrad/layers/adaptive_softmax.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/layers/best_classes.h"
#include "sketchgrad/layers/output_checks.h"
#include "sketchgrad/layers/softmax_chunks.h"
#include "sketchgrad/layers/softmax_loss.h"

namespace sketchgrad {

namespace {

using kernels::Transpose;

void check_options(const std::string& name, const AdaptiveSoftmaxOptions& options, bool tied) {
  check(options.input > 0 && options.classes > 1,
        "[{}] an adaptive softmax of {} inputs over {} classes", name, options.input,
        options.classes);
  check(!options.cutoffs.empty(), "[{}] no cutoffs: at least one separates the head from the rest",
        name);
  int64_t before = 0;
  for (const int64_t cutoff : options.cutoffs) {
    check(cutoff > before && cutoff < options.classes,
          "[{}] cutoff {} after {}: cutoffs increase, above 0 and below {} classes", name, cutoff,
          before, options.classes);
    before = cutoff;
  }
  check(options.division >= 1.0, "[{}] division {} must be at least 1", name, options.division);
  check(!tied || options.division == 1.0,
        "[{}] division {}: rows of a tied table have all columns, it must be 1", name,
        options.division);
}

int64_t tail_columns(const AdaptiveSoftmaxOptions& options, size_t cluster) {
  const double columns =
      static_cast<double>(options.input) / std::pow(options.division, cluster + 1.0);
  return std::max<int64_t>(1, static_cast<int64_t>(columns));
}

// op(a) op(b) in a new tensor.
Tensor product(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
               Purpose purpose) {
  const int64_t rows = transpose_a == Transpose::yes ? a.size(-1) : a.numel() / a.size(-1);
  const int64_t cols = transpose_b == Transpose::yes ? b.numel() / b.size(-1) : b.size(-1);
  const Tensor c = Tensor::empty({rows, cols}, purpose, DType::float32, a.device());
  kernels::gemm(c.exec(), transpose_a, transpose_b, 1.0f, a.matrix(), b.matrix(), 0.0f, c.matrix());
  return c;
}

kernels::Matrix as_column(const Tensor& vector) {
  return kernels::contiguous(vector.data<float>(), vector.numel(), 1);
}

// Rows [begin, begin + values.size(0)) of a table of `table_rows`.
RowSparse row_range_gradient(int64_t table_rows, int64_t begin, const Tensor& values,
                             const std::string& name) {
  const Tensor ids =
      Tensor::empty({values.size(0)}, {Category::index, name + ".rows"}, DType::int32);
  std::iota(ids.data<int32_t>(), ids.data<int32_t>() + ids.numel(), static_cast<int32_t>(begin));
  return {table_rows, ids.to(values.device(), {Category::index, name + ".rows"}), values,
          /*coalesced=*/true, /*checked=*/true};
}

}  // namespace

// What backward hands over.
struct AdaptiveSoftmax::Gradients {
  std::vector<std::pair<Variable, Tensor>> dense;
  std::vector<std::pair<Variable, RowSparse>> rows;

  void scale(float factor) const {
    for (const auto& [place, values] : dense) scale_in_place(values, factor);
    for (const auto& [place, part] : rows) scale_in_place(part.values, factor);
  }
};

// Where the targets of a batch are, on the CPU.
struct AdaptiveSoftmax::Split {
  Tensor head;  // int32 [tokens]: a class of the head, the place of a cluster behind them, or none
  std::vector<Part> parts;

  Split(const AdaptiveSoftmax& layer, const Tensor& targets) {
    const auto array = [&](const char* what, int64_t count) {
      return Tensor::empty({count}, {Category::index, layer.name_ + what}, DType::int32);
    };
    const int64_t tokens = targets.numel();
    const int32_t* const target = targets.data<int32_t>();
    head = array(".head_targets", tokens);
    std::vector<std::vector<int32_t>> places(layer.clusters_.size());
    for (int64_t t = 0; t < tokens; ++t) {
      head.data<int32_t>()[t] = target[t];
      if (target[t] < layer.head_classes()) continue;
      const auto& cutoffs = layer.options_.cutoffs;
      const auto cluster = static_cast<size_t>(
          std::upper_bound(cutoffs.begin(), cutoffs.end(), target[t]) - cutoffs.begin() - 1);
      head.data<int32_t>()[t] =
          static_cast<int32_t>(layer.head_classes() + static_cast<int64_t>(cluster));
      places[cluster].push_back(static_cast<int32_t>(t));
    }
    for (size_t i = 0; i < places.size(); ++i) {
      const auto count = static_cast<int64_t>(places[i].size());
      Part part{array(".places", count), array(".tail_targets", count)};
      for (int64_t j = 0; j < count; ++j) {
        const int32_t place = places[i][static_cast<size_t>(j)];
        part.places.data<int32_t>()[j] = place;
        part.targets.data<int32_t>()[j] =
            target[place] - static_cast<int32_t>(layer.clusters_[i].begin);
      }
      parts.push_back(std::move(part));
    }
  }

  // The same on `device`.
  static Tensor there(const Tensor& ids, Device device) {
    return ids.to(device, {Category::index, "adaptive_softmax.ids"});
  }
};

AdaptiveSoftmax::AdaptiveSoftmax(const std::string& name, const AdaptiveSoftmaxOptions& options,
                                 Rng& rng, Parameter* tied, Device device)
    : name_(name), options_(options), tied_(tied) {
  check_options(name, options, tied != nullptr);
  const auto count = static_cast<int64_t>(options.cutoffs.size());
  const auto add = [&](const std::string& part, const Shape& shape) {
    Parameter& parameter = add_parameter(name + "." + part, shape, device);
    init_uniform(parameter, rng, -options.init_range, options.init_range);
    return &parameter;
  };
  if (tied == nullptr) {
    head_ = add("head.weight", {head_classes() + count, options.input});
  } else {
    const Shape shape = {options.classes, options.input};
    check(tied->value.shape() == shape, "[{}] tied weight {} has shape {}, it must be {}", name,
          tied->name, to_string(tied->value.shape()), to_string(shape));
    head_ = add("clusters.weight", {count, options.input});
  }
  if (options.head_bias) {
    head_bias_ = &add_parameter(name + ".head.bias", {head_classes() + count}, device);
  }
  for (size_t i = 0; i < options.cutoffs.size(); ++i) {
    const int64_t begin = options.cutoffs[i];
    const int64_t end = i + 1 < options.cutoffs.size() ? options.cutoffs[i + 1] : options.classes;
    const int64_t columns = tail_columns(options, i);
    const std::string tail = "tail." + std::to_string(i);
    Parameter* const projection = add(tail + ".0.weight", {columns, options.input});
    Parameter* const weight =
        tied == nullptr ? add(tail + ".1.weight", {end - begin, columns}) : nullptr;
    clusters_.push_back({begin, end - begin, projection, weight});
  }
}

std::string AdaptiveSoftmax::tail_name(size_t cluster) const {
  return name_ + ".tail." + std::to_string(cluster);
}

std::vector<Parameter*> AdaptiveSoftmax::class_tables() {
  if (tied_ != nullptr) return {tied_};
  std::vector<Parameter*> tables = {head_};
  for (const Cluster& cluster : clusters_) tables.push_back(cluster.weight);
  return tables;
}

Tensor AdaptiveSoftmax::head_weight() const {
  if (tied_ == nullptr) return head_->value;
  const int64_t clusters = head_->value.size(0);
  const Tensor both =
      Tensor::empty({head_classes() + clusters, options_.input},
                    {Category::workspace, name_ + ".head"}, DType::float32, head_->value.device());
  both.rows(0, head_classes()).copy_from(tied_->value.rows(0, head_classes()));
  both.rows(head_classes(), clusters).copy_from(head_->value);
  return both;
}

Tensor AdaptiveSoftmax::head_bias() const {
  return head_bias_ == nullptr ? Tensor() : head_bias_->value;
}

Tensor AdaptiveSoftmax::tail_weight(const Cluster& cluster) const {
  return tied_ == nullptr ? cluster.weight->value : tied_->value.rows(cluster.begin, cluster.count);
}

Tensor AdaptiveSoftmax::project(const Cluster& cluster, const Tensor& x) const {
  return product(x, Transpose::no, cluster.projection->value, Transpose::yes,
                 {Category::workspace, name_ + ".projected"});
}

Tensor AdaptiveSoftmax::rows_of(const Tensor& x, const Tensor& places) const {
  const Tensor rows =
      Tensor::empty({places.numel(), options_.input}, {Category::workspace, name_ + ".tail_x"},
                    DType::float32, x.device());
  kernels::gather_rows(rows.exec(), x.matrix(), places.data<int32_t>(), -1, rows.matrix());
  return rows;
}

// Of the classes from `begin` on, to their own table or to rows of the tied one.
void AdaptiveSoftmax::add_table_gradient(Tape& tape, Parameter* own, int64_t begin,
                                         const Tensor& values, Gradients& gradients) {
  if (tied_ == nullptr) {
    gradients.dense.emplace_back(tape.leaf(*own).place(), values);
  } else {
    gradients.rows.emplace_back(tape.leaf(*tied_).place(),
                                row_range_gradient(options_.classes, begin, values, name_));
  }
}

void AdaptiveSoftmax::add_head_gradients(Tape& tape, const Variable& x, const Variable& head,
                                         const SoftmaxGradients& of_head, Gradients& gradients) {
  gradients.dense.emplace_back(x.place(), of_head.x);
  if (head_bias_ != nullptr) {
    gradients.dense.emplace_back(tape.leaf(*head_bias_).place(), of_head.bias);
  }
  if (tied_ == nullptr) {
    gradients.dense.emplace_back(head.place(), of_head.weight);
    return;
  }
  add_table_gradient(tape, nullptr, 0, of_head.weight.rows(0, head_classes()), gradients);
  gradients.dense.emplace_back(head.place(),
                               of_head.weight.rows(head_classes(), head_->value.size(0))
                                   .clone({Category::gradient, head_->name}));
}

// Adds the loss of the tokens in `part`, whose targets are in cluster i, and its gradients.
void AdaptiveSoftmax::add_cluster(Tape& tape, size_t i, const Part& part, double share,
                                  const Variable& x, SoftmaxLoss& head, Gradients& gradients) {
  const Cluster& cluster = clusters_[i];
  const Device device = x.value.device();
  const Tensor places = Split::there(part.places, device);
  const Tensor rows = rows_of(x.value, places);
  SoftmaxLoss tail =
      softmax_loss(tail_name(i), project(cluster, rows), {tail_weight(cluster), Tensor()},
                   Split::there(part.targets, device), share, options_.chunk_bytes,
                   tape.recording(), /*want_x_gradient=*/tape.recording());
  kernels::add_scaled(rows.exec(), tail.total.data<float>(), 1.0f, head.total.data<float>(), 1);
  if (!tape.recording()) return;
  gradients.dense.emplace_back(tape.leaf(*cluster.projection).place(),
                               product(tail.gradients.x, Transpose::yes, rows, Transpose::no,
                                       {Category::gradient, cluster.projection->name}));
  add_table_gradient(tape, cluster.weight, cluster.begin, tail.gradients.weight, gradients);
  if (!x.needs_gradient()) return;
  const Tensor grad_rows = product(tail.gradients.x, Transpose::no, cluster.projection->value,
                                   Transpose::no, {Category::workspace, name_ + ".grad_tail_x"});
  kernels::scatter_add_rows(rows.exec(), grad_rows.matrix(), places.data<int32_t>(), 1.0f,
                            head.gradients.x.matrix());
}

Variable AdaptiveSoftmax::loss(Tape& tape, const Variable& x, const Tensor& targets) {
  const MemoryScope scope(name_);
  const HostTargets here =
      check_targets_on_cpu(name_, x.value, options_.input, targets, options_.classes);
  const double share = share_of_mean(here.count);
  const Split split(*this, here.ids);
  SoftmaxLoss loss = softmax_loss(name_ + ".head", x.value, {head_weight(), head_bias()},
                                  Split::there(split.head, x.value.device()), share,
                                  options_.chunk_bytes, tape.recording(), x.needs_gradient());
  const Variable head = tape.leaf(*head_);
  Gradients gradients;
  if (tape.recording()) add_head_gradients(tape, x, head, loss.gradients, gradients);
  for (size_t i = 0; i < clusters_.size(); ++i) {
    if (split.parts[i].places.numel() == 0) continue;
    add_cluster(tape, i, split.parts[i], share, x, loss, gradients);
  }
  return tape.record(
      name_, std::move(loss.total), {&x, &head},
      [gradients = std::move(gradients)](Tape& t, const Tensor& grad_output) mutable {
        const float seed = t.scalar(grad_output);
        if (seed != 1.0f) gradients.scale(seed);
        for (auto& [place, values] : gradients.dense) {
          t.add_gradient(place, std::move(values));
        }
        for (auto& [place, part] : gradients.rows) {
          t.add_gradient(place, std::move(part));
        }
      });
}

Tensor AdaptiveSoftmax::log_prob(const Tensor& x, const Tensor& targets) {
  const MemoryScope scope(name_);
  const Device device = x.device();
  const Split split(*this,
                    check_targets_on_cpu(name_, x, options_.input, targets, options_.classes).ids);
  const auto negative_log_prob = [&](const std::string& name, const Tensor& features,
                                     const SoftmaxTable& table, const Tensor& ids,
                                     Category category) {
    const Tensor ids_there = Split::there(ids, device);
    const SoftmaxChunks chunks(name, features, table.weight, table.bias, ids_there,
                               options_.chunk_bytes);
    chunks.see_all();
    return chunks.losses({category, name + ".log_prob"});
  };
  const Tensor result =
      negative_log_prob(name_, x, {head_weight(), head_bias()}, split.head, Category::data);
  for (size_t i = 0; i < clusters_.size(); ++i) {
    const Part& part = split.parts[i];
    if (part.places.numel() == 0) continue;
    const Tensor places = Split::there(part.places, device);
    const Tensor rows = rows_of(x, places);
    const Tensor tail =
        negative_log_prob(tail_name(i), project(clusters_[i], rows),
                          {tail_weight(clusters_[i]), Tensor()}, part.targets, Category::workspace);
    kernels::scatter_add_rows(rows.exec(), as_column(tail), places.data<int32_t>(), 1.0f,
                              as_column(result));
  }
  scale_in_place(result, -1.0f);
  return result;
}

namespace {

// f(tokens, classes, log-probabilities on the CPU [tokens, classes]) for all chunks, class by
// class.
template <class F>
void for_each_log_prob(const SoftmaxChunks& chunks, const std::string& name, const F& f) {
  chunks.see_all();
  const Tensor log_sums = chunks.log_sums();
  for (const IndexRange classes : chunks.plan().classes) {
    for (const IndexRange tokens : chunks.plan().tokens) {
      const Tensor scores =
          Tensor::empty({tokens.count, classes.count}, {Category::workspace, name + ".scores"});
      scores.copy_from(chunks.see(tokens, classes));
      for (int64_t t = 0; t < tokens.count; ++t) {
        float* const row = scores.data<float>() + t * classes.count;
        const float log_sum = log_sums.data<float>()[tokens.begin + t];
        for (int64_t c = 0; c < classes.count; ++c) row[c] -= log_sum;
      }
      f(tokens, classes, scores);
    }
  }
}

// Columns [begin, begin + count) of a matrix on the CPU, on their own.
Tensor columns_of(const Tensor& matrix, int64_t begin, int64_t count, const std::string& name) {
  const Tensor part =
      Tensor::empty({matrix.size(0), count}, {Category::workspace, name + ".scores"});
  for (int64_t t = 0; t < matrix.size(0); ++t) {
    const float* const row = matrix.data<float>() + t * matrix.size(1) + begin;
    std::copy_n(row, count, part.data<float>() + t * count);
  }
  return part;
}

}  // namespace

TopK AdaptiveSoftmax::top_k(const Tensor& x, int64_t k) {
  const MemoryScope scope(name_);
  const int64_t tokens = check_features(name_, x, options_.input);
  check(k >= 1 && k <= options_.classes, "[{}] top {} of {} classes", name_, k, options_.classes);
  const Tensor targets = no_targets(tokens, x.device());
  BestClasses best(tokens, k);
  const auto clusters = static_cast<int64_t>(clusters_.size());
  // log p of each token's clusters.
  const Tensor priors =
      Tensor::empty({clusters, tokens}, {Category::workspace, name_ + ".clusters"});
  const Tensor weight = head_weight(), bias = head_bias();
  for_each_log_prob(
      SoftmaxChunks(name_, x, weight, bias, targets, options_.chunk_bytes), name_,
      [&](IndexRange block, IndexRange range, const Tensor& scores) {
        const int64_t of_head = std::clamp<int64_t>(head_classes() - range.begin, 0, range.count);
        if (of_head > 0) {
          best.see(columns_of(scores, 0, of_head, name_), block, {range.begin, of_head});
        }
        for (int64_t c = of_head; c < range.count; ++c) {
          const int64_t cluster = range.begin + c - head_classes();
          for (int64_t t = 0; t < block.count; ++t) {
            priors.data<float>()[cluster * tokens + block.begin + t] =
                scores.data<float>()[t * range.count + c];
          }
        }
      });
  for (size_t i = 0; i < clusters_.size(); ++i) {
    const Tensor projected = project(clusters_[i], x.reshape({tokens, options_.input}));
    const Tensor table = tail_weight(clusters_[i]);
    const float* const prior = priors.data<float>() + static_cast<int64_t>(i) * tokens;
    for_each_log_prob(
        SoftmaxChunks(tail_name(i), projected, table, Tensor(), targets, options_.chunk_bytes),
        name_, [&](IndexRange block, IndexRange range, const Tensor& scores) {
          for (int64_t t = 0; t < block.count; ++t) {
            float* const row = scores.data<float>() + t * range.count;
            for (int64_t c = 0; c < range.count; ++c) row[c] += prior[block.begin + t];
          }
          best.see(scores, block, {clusters_[i].begin + range.begin, range.count});
        });
  }
  return best.result(Tensor::zeros({tokens}, {Category::workspace, name_ + ".log_sums"}), name_,
                     x.device());
}

}  // namespace sketchgrad
