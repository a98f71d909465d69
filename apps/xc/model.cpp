#include "sketchgrad/apps/xc/model.h"

#include <algorithm>
#include <cmath>

#include "sketchgrad/framework/ops.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/layers/mach_top_k.h"

namespace sketchgrad::apps::xc {

namespace {

// What is an option of the model alone.
struct Sizes : ClassifierOptions {};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Sizes, features, classes, hidden, input_range, model, buckets,
                                   repetitions, shared_hidden, meta_loss, stored_map, seed)

// Streams of initial values besides those of MACH's own layers.
constexpr uint32_t kHiddenStream = 1;
constexpr uint32_t kSharedStream = 2;
// Of samples and choices.
constexpr uint32_t kSampleStream = 3;

MultiLabelLoss parse_meta_loss(const std::string& word) {
  if (word == "softmax") return MultiLabelLoss::softmax;
  check(word == "sigmoid", "--meta-loss: {} is none of softmax, sigmoid", word);
  return MultiLabelLoss::sigmoid;
}

float range_of(int64_t inputs) { return 1.0f / std::sqrt(static_cast<float>(inputs)); }

EmbeddingBagOptions bag_options(const ClassifierOptions& options) {
  return {.rows = options.features,
          .dim = options.hidden,
          .bias = true,
          .init_range = static_cast<float>(options.input_range)};
}

std::unique_ptr<Mach> make_mach(const ClassifierOptions& options, Device device) {
  return std::make_unique<Mach>("mach",
                                MachOptions{.input = options.hidden,
                                            .classes = options.classes,
                                            .buckets = options.buckets,
                                            .repetitions = options.repetitions,
                                            .seed = options.seed,
                                            .loss = parse_meta_loss(options.meta_loss),
                                            .stored_map = options.stored_map,
                                            .init_range = range_of(options.hidden)},
                                device);
}

}  // namespace

void to_json(nlohmann::json& json, const ClassifierOptions& options) {
  json = Sizes{options};
  json.update(nlohmann::json(options.softmax));
}

void from_json(const nlohmann::json& json, ClassifierOptions& options) {
  options = json.get<Sizes>();
  options.softmax = json.get<SoftmaxOptions>();
}

Classifier::Classifier(const ClassifierOptions& options, Device device, std::vector<int64_t> counts)
    : options_(options), rng_(mach_rng(options.seed, 0, kSampleStream)) {
  check(options.hidden >= 1, "[xc] {} hidden units, there must be at least 1", options.hidden);
  const auto add_bag = [&](const std::string& name, Rng rng) {
    bags_.push_back(std::make_unique<EmbeddingBag>(name, bag_options(options), rng, device));
    add_child(*bags_.back());
  };
  if (options.is_mach() && !options.shared_hidden) {
    for (const int32_t repetition : options.repetitions) {
      add_bag(fmt::format("hidden.r{}", repetition),
              mach_rng(options.seed, repetition, kHiddenStream));
    }
  } else {
    add_bag("hidden", mach_rng(options.seed, 0, kSharedStream));
  }
  if (options.is_mach()) {
    mach_ = make_mach(options, device);
    add_child(*mach_);
  } else {
    softmax_ = make_softmax(options.softmax,
                            {.size = {.input = options.hidden,
                                      .classes = options.classes,
                                      .init_range = range_of(options.hidden)},
                             .counts = std::move(counts)},
                            rng_, device);
    add_child(*softmax_);
  }
}

std::vector<Variable> Classifier::features(Tape& tape, const SparseRows& x) {
  const BagInput input = make_bag_input("xc.features", x, options_.features,
                                        bags_[0]->weight().value.device(), tape.recording());
  std::vector<Variable> result;
  for (const auto& bag : bags_) result.push_back(relu(tape, bag->forward(tape, input)));
  return result;
}

// int32 [rows]; kIgnoredTarget for rows without a label.
Tensor Classifier::one_label_each(const SparseRows& labels) {
  const Tensor result =
      Tensor::empty({labels.rows()}, {Category::index, "xc.targets"}, DType::int32);
  const kernels::PhiloxKey key = training() ? rng_.next() : kernels::PhiloxKey{};
  const int32_t* const begin = labels.begin.data<int32_t>();
  for (int64_t r = 0; r < labels.rows(); ++r) {
    const auto count = static_cast<uint64_t>(begin[r + 1] - begin[r]);
    const uint64_t word =
        training() && count > 1 ? kernels::philox_bits(key, static_cast<uint64_t>(r)) : 0;
    const auto choice = static_cast<int64_t>(word * count >> 32);
    result.data<int32_t>()[r] =
        count == 0 ? kernels::kIgnoredTarget : labels.columns.data<int32_t>()[begin[r] + choice];
  }
  return result;
}

Variable Classifier::loss(Tape& tape, const SparseRows& x, const SparseRows& labels) {
  check(labels.rows() == x.rows(), "[xc] {} rows with labels for {} with features", labels.rows(),
        x.rows());
  const std::vector<Variable> hidden = features(tape, x);
  if (mach_) return mach_->loss(tape, hidden, labels);
  check_sparse_rows("xc", labels, options_.classes);
  return softmax_->loss(tape, hidden[0], one_label_each(labels));
}

int64_t Classifier::rows_of_mean(const SparseRows& labels) const {
  // A softmax over all classes is of one label of each row that has any.
  return sketchgrad::rows_of_mean(
      mach_ ? parse_meta_loss(options_.meta_loss) : MultiLabelLoss::softmax, labels);
}

Prediction Classifier::predict(const SparseRows& x, const Ranking& ranking) {
  Tape tape(/*recording=*/false);
  Prediction result(*this, ranking);
  std::vector<Tensor> hidden;
  for (const Variable& one : features(tape, x)) hidden.push_back(one.value);
  if (mach_) {
    result.meta_ = mach_->probabilities(hidden);
    if (ranking.logarithms) take_logarithms(result.meta_);
  } else {
    result.hidden_ = hidden[0];
  }
  return result;
}

void Classifier::prepare(const Ranking& ranking) {
  if (mach_ && ranking.best_buckets > 0) index();
}

const MachIndex& Classifier::index() {
  if (!index_) index_ = std::make_unique<MachIndex>("mach.index", mach_->map());
  return *index_;
}

std::vector<Parameter*> Classifier::input_tables() {
  std::vector<Parameter*> result;
  for (const auto& bag : bags_) result.push_back(&bag->weight());
  return result;
}

std::vector<Parameter*> Classifier::output_tables() {
  if (!mach_) return softmax_->class_tables();
  std::vector<Parameter*> result;
  for (int64_t place = 0; place < mach_->repetitions(); ++place) {
    result.push_back(&mach_->weight(place));
  }
  return result;
}

std::vector<std::pair<std::string, double>> Classifier::statistics() const {
  return softmax_ ? softmax_->statistics() : std::vector<std::pair<std::string, double>>{};
}

void Classifier::keep_output() {
  if (softmax_) softmax_->keep_state();
}

void Classifier::restore_output() {
  if (softmax_) softmax_->restore_state();
}

void Classifier::save_state(StateDict& state) const {
  state.set_unsigned("rng.seed", rng_.seed());
  state.set_unsigned("rng.offset", rng_.offset());
  if (softmax_) softmax_->save_state(state);
}

void Classifier::load_state(const StateDict& state) {
  rng_ = Rng(state.unsigned_integer("rng.seed"), state.unsigned_integer("rng.offset"));
  if (softmax_) softmax_->load_state(state);
}

TopK Prediction::top_k(int64_t k) const {
  if (hidden_.defined()) {
    check(ranking_.best_buckets == 0, "[xc] the best buckets are MACH's alone, this model is {}",
          classifier_.options().model);
    const TopK top = classifier_.softmax_->top_k(hidden_, k);
    const Purpose purpose{Category::data, "xc.top_k"};
    return {top.ids.to(kCpu, purpose), top.scores.to(kCpu, purpose)};
  }
  if (ranking_.best_buckets > 0 && ranking_.proven) {
    return classifier_.index().exact_top_k(meta_, k, ranking_.best_buckets, ranking_.aggregation);
  }
  if (ranking_.best_buckets > 0) {
    return classifier_.index().top_k(meta_, k, ranking_.best_buckets, ranking_.aggregation).top;
  }
  return mach_top_k(classifier_.mach_->map(), meta_, k, ranking_.aggregation);
}

Tensor Prediction::scores(const Tensor& ids) const {
  check(!hidden_.defined(), "[xc] scores of given classes are MACH's alone, this model is {}",
        classifier_.options().model);
  return mach_scores(classifier_.mach_->map(), meta_, ids, ranking_.aggregation);
}

}  // namespace sketchgrad::apps::xc
