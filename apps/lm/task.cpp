#include "sketchgrad/apps/lm/task.h"

#include <utility>

#include "sketchgrad/apps/common/report.h"
#include "sketchgrad/apps/common/training_run.h"
#include "sketchgrad/apps/lm/evaluate.h"

namespace sketchgrad::apps::lm {

namespace {

using nlohmann::json;

constexpr const char* kIdentity = "lm.identity";
constexpr const char* kVocabularyPrefix = "lm.";

json parse_identity(const StateDict& state) {
  if (!state.metadata.contains(kIdentity)) throw DataError(state.source, 0, "is no model of lm");
  json identity = json::parse(state.text(kIdentity), nullptr, /*allow_exceptions=*/false);
  if (!identity.is_object()) {
    throw DataError(state.source, 0, fmt::format("\"{}\" is no JSON object", kIdentity));
  }
  return identity;
}

// f(name, tensor) for each tensor of the carried state.
template <class Function>
void for_each_tensor(const LstmState& state, const Function& f) {
  for (size_t k = 0; k < state.h.size(); ++k) {
    f(fmt::format("lm.state.h_l{}", k), state.h[k]);
    f(fmt::format("lm.state.c_l{}", k), state.c[k]);
  }
}

LanguageModelOptions evaluation_options(const StateDict& state) {
  LanguageModelOptions options = saved_options(state);
  options.softmax = for_evaluation(options.softmax);
  return options;
}

}  // namespace

LanguageModelOptions saved_options(const StateDict& state) {
  try {
    return parse_identity(state).get<LanguageModelOptions>();
  } catch (const json::exception& error) {
    throw DataError(state.source, 0, fmt::format("\"{}\": {}", kIdentity, problem_of(error)));
  }
}

LanguageModelTask::LanguageModelTask(LanguageModel& model, const Vocabulary& vocabulary,
                                     ColumnBatches train, ColumnBatches valid, json identity)
    : model_(model),
      vocabulary_(vocabulary),
      train_(std::move(train)),
      valid_(std::move(valid)),
      identity_(std::move(identity)),
      state_(model.zero_state(train_.batch())) {}

int64_t LanguageModelTask::fetch(int64_t step_of_epoch) {
  if (step_of_epoch == 0) state_ = model_.zero_state(train_.batch());
  segment_ = train_.segment(step_of_epoch);
  return segment_.tokens();
}

Variable LanguageModelTask::loss(Tape& tape) {
  return model_.loss(tape, segment_.inputs, segment_.targets, state_);
}

std::optional<double> LanguageModelTask::validate() {
  const std::optional<LossMean> mean = evaluate(model_, valid_, "valid");
  if (!mean) return std::nullopt;
  return mean->value();
}

std::string LanguageModelTask::describe(double loss) const {
  return fmt::format("loss {:.4f} perplexity {:.2f}", loss, perplexity(loss));
}

std::string LanguageModelTask::describe_briefly(double loss) const {
  return fmt::format("ppl {:.2f}", perplexity(loss));
}

json LanguageModelTask::metrics(double loss) const {
  json result = {{"loss", loss}, {"perplexity", perplexity(loss)}};
  for (const auto& [name, value] : model_.statistics()) result[name] = value;
  return result;
}

void LanguageModelTask::save(StateDict& state) const {
  state.set(kIdentity, identity_.dump());
  vocabulary_.save(state, kVocabularyPrefix);
  model_.save_rng(state);
  model_.save_output(state);
  for_each_tensor(
      state_, [&](const std::string& name, const Tensor& tensor) { state.tensors[name] = tensor; });
}

void LanguageModelTask::load(const StateDict& state) {
  check_resumes(identity_, parse_identity(state), state.source);
  model_.load_rng(state);
  model_.load_output(state);
  for_each_tensor(
      state_, [&](const std::string& name, const Tensor& tensor) { state.copy_to(name, tensor); });
}

void LanguageModelTask::restore_state() {
  state_ = kept_.state;
  model_.set_rng(kept_.rng);
  model_.restore_output();
}

StateDict load_without_optimizer(const std::string& checkpoint) {
  return load_safetensors(checkpoint, [](const std::string& name) {
    return !name.starts_with("optimizer.") && !name.starts_with("softmax.lsh.");
  });
}

TrainedModel::TrainedModel(const StateDict& state, Device device)
    : model(evaluation_options(state), 0, device),
      vocabulary(Vocabulary::load(state, kVocabularyPrefix)) {
  if (vocabulary.size() != model.options().vocabulary) {
    throw DataError(
        state.source, 0,
        fmt::format("{} words for a model of {}", vocabulary.size(), model.options().vocabulary));
  }
  load_parameters(state, model);
  model.set_training(false);
}

}  // namespace sketchgrad::apps::lm
