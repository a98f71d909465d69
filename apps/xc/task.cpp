#include "sketchgrad/apps/xc/task.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "sketchgrad/apps/common/checkpoint_folder.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/shuffle.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/apps/common/training_run.h"
#include "sketchgrad/apps/xc/feature_dropout.h"

namespace sketchgrad::apps::xc {

namespace {

using nlohmann::json;

constexpr const char* kModel = "xc.model";
constexpr const char* kIdentity = "xc.identity";
constexpr const char* kClasses = "xc.classes_checksum";
constexpr const char* kEpoch = "xc.epoch";

// Draws of orders and dropout are others than those of the model, which has the same seed.
constexpr uint64_t kOrderSeed = 0x6f72646572;
constexpr uint64_t kDropoutSeed = 0x64726f70;

json parse_object(const StateDict& state, const char* key) {
  json object = json::parse(state.text(key), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    throw DataError(state.source, 0, fmt::format("\"{}\" is no JSON object", key));
  }
  return object;
}

// Of a model that is never trained, for these examples.
ClassifierOptions evaluation_options(const std::string& checkpoint, const Examples& examples) {
  const StateDict state = load_safetensors(checkpoint, [](const std::string&) { return false; });
  ClassifierOptions options = saved_options(state);
  if (saved_classes_checksum(state) != examples.classes_checksum()) {
    throw DataError(checkpoint, 0,
                    "was trained on other classes or features than those of the data; prepare the "
                    "data with --like and the file that it was trained on");
  }
  options.softmax = for_evaluation(options.softmax);
  return options;
}

int64_t rows_within(const Examples& examples, int64_t limit) {
  return limit > 0 ? std::min(limit, examples.rows()) : examples.rows();
}

// A mean over no rows would be the best validation there is.
void check_validation_rows(const Examples& examples, int64_t limit, int64_t batch) {
  const int64_t rows = rows_within(examples, limit);
  for (int64_t begin = 0; begin < rows; begin += batch) {
    const Batch part = examples.batch(RowNumbers(begin, std::min(batch, rows - begin)).all());
    if (known_labels_of(part).entries() > 0) return;
  }
  throw InvalidArgument(
      fmt::format("--valid, or without it --test: none of its first {} rows has a class of the "
                  "training set, so "
                  "that there is nothing to validate with; see --valid-limit",
                  rows));
}

}  // namespace

SparseRows features_of(const Batch& batch) {
  return {batch.feature_begin, batch.features, batch.weights};
}

SparseRows known_labels_of(const Batch& batch) {
  SparseRows result{batch.label_begin.clone({Category::data, "xc.label_begin"}),
                    batch.labels.clone({Category::data, "xc.labels"}),
                    {}};
  int32_t* const begin = result.begin.data<int32_t>();
  int32_t* const label = result.columns.data<int32_t>();
  int32_t* end = label;
  for (int64_t r = 0; r < batch.rows(); ++r) {
    const int32_t first = begin[r], last = batch.label_begin.data<int32_t>()[r + 1];
    begin[r] = static_cast<int32_t>(end - label);
    end = std::copy_if(label + first, label + last, end, [](int32_t id) { return id >= 0; });
  }
  begin[batch.rows()] = static_cast<int32_t>(end - label);
  result.columns = result.columns.rows(0, end - label);
  return result;
}

kernels::PhiloxKey order_key(uint64_t seed, int64_t epoch) {
  return {seed ^ kOrderSeed, static_cast<uint64_t>(epoch)};
}

ClassificationTask::ClassificationTask(Classifier& model, const Examples& train,
                                       const Examples& valid, const Options& options, json identity)
    : model_(model),
      train_(train),
      valid_(valid),
      options_(options),
      identity_(std::move(identity)),
      kept_{model.rng()} {
  check(train.rows() >= 1, "[xc] no rows to train on");
  check_validation_rows(valid, options.valid_limit, options.eval_batch);
}

int64_t ClassificationTask::steps_per_epoch() const {
  return (train_.rows() + options_.batch - 1) / options_.batch;
}

int64_t ClassificationTask::fetch(int64_t step_of_epoch) {
  if (step_of_epoch == 0) ++epoch_;
  const Shuffle order(train_.rows(), order_key(options_.seed, epoch_));
  const int64_t begin = step_of_epoch * options_.batch;
  const RowNumbers rows(begin, std::min(options_.batch, train_.rows() - begin));
  for (int64_t& row : rows.all()) row = order(row);
  // The batch of the step before goes first.
  features_ = {};
  labels_ = {};
  const Batch batch = train_.batch(rows.all());
  features_ = features_of(batch);
  drop_features(features_, options_.feature_dropout,
                {options_.seed ^ kDropoutSeed,
                 static_cast<uint64_t>(epoch_ * steps_per_epoch() + step_of_epoch)});
  labels_ = known_labels_of(batch);
  return model_.rows_of_mean(labels_);
}

Variable ClassificationTask::loss(Tape& tape) { return model_.loss(tape, features_, labels_); }

std::optional<double> ClassificationTask::validate() {
  return mean_loss(model_, valid_, options_.valid_limit, options_.eval_batch);
}

double ClassificationTask::one_loss(double loss) const {
  const ClassifierOptions& options = model_.options();
  return options.is_mach() ? loss / static_cast<double>(options.repetitions.size()) : loss;
}

std::string ClassificationTask::describe(double loss) const {
  return fmt::format("loss {:.4f}", one_loss(loss));
}

json ClassificationTask::metrics(double loss) const {
  json result = {{"loss", one_loss(loss)}};
  for (const auto& [name, value] : model_.statistics()) result[name] = value;
  return result;
}

void ClassificationTask::save(StateDict& state) const {
  state.set(kIdentity, identity_.dump());
  state.set_integer(kEpoch, epoch_);
  save_options(model_.options(), train_.classes_checksum(), state);
  model_.save_state(state);
}

void ClassificationTask::load(const StateDict& state) {
  saved_options(state);  // before all else, for what is no model of xc
  check_resumes(identity_, parse_object(state, kIdentity), state.source);
  epoch_ = state.integer(kEpoch);
  model_.load_state(state);
}

void ClassificationTask::keep_state() {
  kept_ = {model_.rng(), epoch_};
  model_.keep_output();
}

void ClassificationTask::restore_state() {
  model_.set_rng(kept_.rng);
  epoch_ = kept_.epoch;
  model_.restore_output();
}

std::optional<double> mean_loss(Classifier& model, const Examples& examples, int64_t limit,
                                int64_t batch) {
  model.set_training(false);
  const int64_t rows = rows_within(examples, limit);
  LossMean mean;
  Progress progress("valid", rows);
  for (int64_t begin = 0; begin < rows; begin += batch) {
    if (StopSignal::requested()) return std::nullopt;
    const Batch part = examples.batch(RowNumbers(begin, std::min(batch, rows - begin)).all());
    const SparseRows labels = known_labels_of(part);
    Tape tape(/*recording=*/false);
    mean.add(model.loss(tape, features_of(part), labels).value.item(), model.rows_of_mean(labels));
    if (progress.due())
      progress.update(begin + part.rows(), fmt::format("loss {:.4f}", mean.value()));
  }
  return mean.value();
}

ClassifierOptions saved_options(const StateDict& state) {
  if (!state.metadata.contains(kModel)) throw DataError(state.source, 0, "is no model of xc");
  try {
    return parse_object(state, kModel).get<ClassifierOptions>();
  } catch (const json::exception& error) {
    throw DataError(state.source, 0, fmt::format("\"{}\": {}", kModel, problem_of(error)));
  }
}

void save_options(const ClassifierOptions& options, uint64_t classes_checksum, StateDict& state) {
  state.set(kModel, json(options).dump());
  state.set_unsigned(kClasses, classes_checksum);
}

uint64_t saved_classes_checksum(const StateDict& state) { return state.unsigned_integer(kClasses); }

json saved_identity(const StateDict& state) {
  return state.metadata.contains(kIdentity) ? parse_object(state, kIdentity) : json::object();
}

std::string joined_model(const std::string& folder) {
  return (std::filesystem::path(folder) / "model.safetensors").string();
}

std::string model_file(const std::string& path) {
  const std::string joined = joined_model(path);
  std::error_code none;
  const bool is_joined = !std::filesystem::exists(checkpoint_file(path), none) &&
                         std::filesystem::exists(joined, none);
  return is_joined ? joined : readable_checkpoint(path);
}

std::vector<std::string> model_files(const std::string& path) {
  std::vector<std::string> files = checkpoint_files(path);
  files.push_back(model_file(path));
  return files;
}

StateDict load_model(const std::string& checkpoint) {
  return load_safetensors(checkpoint, [](const std::string& name) {
    return !name.starts_with("optimizer.") && !name.starts_with("softmax.lsh.");
  });
}

TrainedClassifier::TrainedClassifier(const std::string& checkpoint, const Examples& examples,
                                     Device device)
    : model(evaluation_options(checkpoint, examples), device) {
  for (Parameter* parameter : model.parameters()) {
    load_safetensors(checkpoint, [&](const std::string& name) {
      return name == parameter->name;
    }).copy_to(parameter->name, parameter->value);
  }
  model.set_training(false);
}

}  // namespace sketchgrad::apps::xc
