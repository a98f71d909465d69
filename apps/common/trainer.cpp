#include "sketchgrad/apps/common/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <new>
#include <utility>

#include "sketchgrad/apps/common/out_of_memory.h"
#include "sketchgrad/apps/common/stop_signal.h"
#include "sketchgrad/optim/clip.h"

namespace sketchgrad::apps {

namespace {

using nlohmann::json;

constexpr const char* kFiguresKey = "trainer";

// Adds the time since the last call to a counter.
class Stopwatch {
 public:
  void lap(double& seconds) {
    const auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

void check_finite(double loss, int64_t step, const char* what) {
  if (std::isfinite(loss)) return;
  throw NumericError(fmt::format("[train] step {}: the {} is {}", step, what, loss));
}

}  // namespace

// Found by argument-dependent lookup, which does not look into unnamed namespaces.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PhaseSeconds, data, forward_backward, clip, optimizer)

static void to_json(json& out, const LossMean& mean) {
  out = json::array({mean.sum, mean.examples});
}
static void from_json(const json& in, LossMean& mean) {
  in.at(0).get_to(mean.sum);
  in.at(1).get_to(mean.examples);
}

static void to_json(json& out, const Validation& validation) {
  out = json::array({validation.step, validation.loss});
}
static void from_json(const json& in, Validation& validation) {
  in.at(0).get_to(validation.step);
  in.at(1).get_to(validation.loss);
}

std::string TrainingTask::describe(double loss) const { return fmt::format("loss {:.4f}", loss); }

json TrainingTask::metrics(double loss) const { return {{"loss", loss}}; }

double TrainingFigures::examples_per_second() const {
  const double total = seconds.total();
  return total > 0 ? static_cast<double>(examples) / total : 0.0;
}

std::optional<double> TrainingFigures::best_validation() const {
  if (validations.empty()) return std::nullopt;
  double best = std::numeric_limits<double>::infinity();
  for (const Validation& validation : validations) best = std::min(best, validation.loss);
  return best;
}

Trainer::Trainer(TrainingTask& task, Optimizer& optimizer, Schedule& schedule,
                 const TrainerOptions& options, MetricsLog& metrics, const CheckpointFolder* folder)
    : task_(task),
      optimizer_(optimizer),
      schedule_(schedule),
      options_(options),
      metrics_(metrics),
      folder_(folder) {
  check(options.total_steps >= 1, "[train] {} steps, there must be at least 1",
        options.total_steps);
  check(options.read_every >= 1, "[train] results read every {} steps, it must be at least 1",
        options.read_every);
  if (options.telemetry_rows > 0) {
    telemetry_.emplace(optimizer, options.telemetry_rows, options.telemetry_seed);
  }
  const auto results = [&](const char* name) {
    return Tensor::zeros({options.read_every}, {Category::workspace, name}, DType::float32,
                         options.device);
  };
  losses_ = results("train.losses");
  norms_ = results("train.norms");
}

bool Trainer::run() {
  const StopSignal stop;
  Progress progress("train", options_.total_steps);
  try {
    return train(progress);
  } catch (...) {
    const bool updating = step_state_ == StepState::updating;
    const bool abandoned = abandon_step();
    if (abandoned && !updating) save_before_error(progress);
    throw;
  }
}

// False where not even that was possible; what ended the training is the error to tell.
bool Trainer::abandon_step() noexcept {
  try {
    optimizer_.clear_gradients();
    if (step_state_ == StepState::begun) task_.restore_state();
    step_state_ = StepState::finished;
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool Trainer::train(Progress& progress) {
  task_.model().set_training(true);
  for (;;) {
    if (validation_due() && !validate(progress)) break;
    if (StopSignal::requested() || figures_.steps >= options_.total_steps) break;
    step(progress);
    write_interval();  // before the checkpoint, as in validate()
    const int64_t every = options_.checkpoint_every;
    // A validation that is due writes one, with its own result in it.
    if (every > 0 && figures_.steps % every == 0 && !validation_due()) save_latest();
    show(progress);
  }
  Stopwatch watch;
  read_results();
  watch.lap(figures_.seconds.optimizer);
  if (saved_steps_ != figures_.steps) save_latest();
  return figures_.steps >= options_.total_steps && !validation_due();
}

void Trainer::step(Progress& progress) {
  for (;;) {
    try {
      return attempt_step();
    } catch (const OutOfMemory& error) {
      if (!fold(error, progress)) throw;
    }
  }
}

// Whether the step that has run out of memory can be begun anew in less.
bool Trainer::fold(const OutOfMemory& error, Progress& progress) {
  if (!options_.fold_on_oom || step_state_ != StepState::begun) return false;
  // All foldings together free less than twice what the first one does.
  const int64_t most = 2 * optimizer_.foldable_bytes();
  if (most == 0 || error.missing_bytes() > most) {
    progress.say(fmt::format("step {}: out of memory by {}; folded sketches would free {}",
                             figures_.steps + 1, format_bytes(error.missing_bytes()),
                             most == 0 ? "nothing" : "less than " + format_bytes(most)));
    return false;
  }
  optimizer_.clear_gradients();
  task_.restore_state();
  int64_t freed = 0;
  try {
    freed = optimizer_.fold();
  } catch (const OutOfMemory&) {
    return false;  // the step's error tells more
  }
  if (freed == 0) return false;
  progress.say(fmt::format("step {}: out of memory; sketches are folded to half, which frees {}",
                           figures_.steps + 1, format_bytes(freed)));
  return true;
}

void Trainer::attempt_step() {
  const int64_t number = figures_.steps + 1;
  mark("step", number);
  try {
    Stopwatch watch;
    PhaseSeconds& seconds = figures_.seconds;
    task_.keep_state();
    step_state_ = StepState::begun;
    const int64_t examples = task_.fetch(figures_.steps % task_.steps_per_epoch());
    watch.lap(seconds.data);
    forward_backward();
    watch.lap(seconds.forward_backward);
    clip();
    watch.lap(seconds.clip);
    // The last that a step can be begun anew after: where it fails, it has changed nothing.
    if (telemetry_) telemetry_->step();
    step_state_ = StepState::updating;
    update();
    finish_step(examples);
    watch.lap(seconds.optimizer);
    step_state_ = StepState::finished;
  } catch (const std::bad_alloc&) {
    throw_out_of_memory(fmt::format("[train] step {}", number));
  }
}

void Trainer::forward_backward() {
  Tape tape;
  const auto forward = [&] {
    const MemoryScope scope("forward");
    return task_.loss(tape);
  };
  const Variable loss = forward();
  losses_.rows(std::ssize(unread_examples_), 1).copy_from(loss.value.reshape({1}));
  if (reads_at_once()) check_finite(loss.value.item(), figures_.steps + 1, "loss");
  const MemoryScope scope("backward");
  tape.backward(loss);
}

void Trainer::clip() {
  const MemoryScope scope("clip");
  // Without clipping, too: the norm tells whether every gradient is finite.
  const double most = options_.clip > 0 ? options_.clip : std::numeric_limits<double>::infinity();
  if (!reads_at_once()) {
    norms_.rows(std::ssize(unread_examples_), 1)
        .copy_from(clip_global_norm_on_device(optimizer_.parameters(), most));
    return;
  }
  try {
    last_norm_ = clip_global_norm(optimizer_.parameters(), most);
  } catch (const NumericError& error) {
    throw NumericError(fmt::format("[train] step {}: {}", figures_.steps + 1, error.what()));
  }
}

void Trainer::update() {
  const MemoryScope scope("optimizer");
  optimizer_.set_learning_rate(
      static_cast<float>(options_.learning_rate * schedule_.factor(figures_.steps)));
  optimizer_.step();
  optimizer_.clear_gradients();
}

void Trainer::finish_step(int64_t examples) {
  ++figures_.steps;
  figures_.examples += examples;
  unread_examples_.push_back(examples);
  if (!results_due()) return;
  read_results();
  if (figures_.steps % task_.steps_per_epoch() == 0) {
    figures_.epoch_losses.push_back(figures_.epoch.value());
    figures_.epoch = {};
  }
  if (figures_.steps % options_.log_every == 0) interval_entry_ = end_interval();
  last_loss_ = figures_.interval.examples > 0 ? figures_.interval.value() : last_loss_;
}

bool Trainer::results_due() const {
  const auto ends = [this](int64_t every) { return every > 0 && figures_.steps % every == 0; };
  return std::ssize(unread_examples_) >= options_.read_every || ends(options_.log_every) ||
         ends(task_.steps_per_epoch()) || ends(options_.checkpoint_every) || validation_due() ||
         figures_.steps >= options_.total_steps;
}

void Trainer::read_results() {
  const int64_t count = std::ssize(unread_examples_);
  const std::vector<float> losses = losses_.rows(0, count).to_vector<float>();
  if (!reads_at_once()) {  // otherwise they were looked at when they came
    const std::vector<float> norms = norms_.rows(0, count).to_vector<float>();
    step_state_ = StepState::updating;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t step = figures_.steps - count + 1 + i;
      check_finite(losses[static_cast<size_t>(i)], step, "loss");
      check_finite(norms[static_cast<size_t>(i)], step, "gradient norm");
    }
    if (count > 0) last_norm_ = norms.back();
  }
  // Only what has been looked at is counted, and counted once.
  for (size_t i = 0; i < losses.size(); ++i) {
    figures_.epoch.add(losses[i], unread_examples_[i]);
    figures_.interval.add(losses[i], unread_examples_[i]);
  }
  unread_examples_.clear();
  step_state_ = StepState::finished;
}

json Trainer::end_interval() {
  last_loss_ = figures_.interval.value();
  figures_.interval = {};
  json entry = task_.metrics(last_loss_);
  entry.update({{"event", "train"},
                {"step", figures_.steps},
                {"epoch", epoch()},
                {"learning_rate", optimizer_.learning_rate()},
                {"gradient_norm", last_norm_},
                {"examples", figures_.examples},
                {"seconds", figures_.seconds.total()},
                {"peak_bytes", allocator(options_.device).peak().total}});
  if (telemetry_) entry["sketch_error"] = sketch_errors();
  return entry;
}

json Trainer::sketch_errors() const {
  if (!telemetry_) return nullptr;
  try {
    json errors = json::object();
    for (const SketchError& entry : telemetry_->errors()) {
      errors[entry.moment] = entry.error.relative;
    }
    return errors;
  } catch (const OutOfMemory&) {
    return nullptr;  // training needs none of them
  }
}

void Trainer::write_interval() {
  const json entry = std::exchange(interval_entry_, nullptr);
  if (!entry.is_null()) metrics_.write(entry);
}

void Trainer::show(Progress& progress) const {
  if (!progress.due()) return;
  const double seconds_a_step =
      figures_.seconds.total() / static_cast<double>(std::max<int64_t>(1, figures_.steps));
  const auto left = static_cast<double>(options_.total_steps - figures_.steps);
  progress.update(figures_.steps,
                  fmt::format("epoch {} {} {:.0f}/s {} left {}", epoch() + 1,
                              task_.describe_briefly(last_loss_), figures_.examples_per_second(),
                              format_bytes(allocator(options_.device).peak().total),
                              format_seconds(left * seconds_a_step)));
}

bool Trainer::validation_due() const {
  const int64_t every = options_.eval_every > 0 ? options_.eval_every : task_.steps_per_epoch();
  const bool is_time = figures_.steps % every == 0 || figures_.steps >= options_.total_steps;
  const int64_t last = figures_.validations.empty() ? 0 : figures_.validations.back().step;
  return is_time && figures_.steps > last;
}

bool Trainer::validate(Progress& progress) {
  mark("validation", figures_.steps);
  const std::optional<double> best = figures_.best_validation();
  const std::optional<double> loss = task_.validate();
  task_.model().set_training(true);
  if (!loss) return false;
  check_finite(*loss, figures_.steps, "validation loss");
  figures_.validations.push_back({figures_.steps, *loss});
  schedule_.observe(*loss);
  if (folder_ != nullptr && (!best || *loss < *best)) save(folder_->best());

  // The line comes before the checkpoint that a resumed run starts from: where only the line is
  // there, it is dropped and the validation made again. An error here still saves the step (run()).
  json entry = task_.metrics(*loss);
  entry.update({{"event", "validation"}, {"step", figures_.steps}, {"epoch", epoch()}});
  metrics_.write(entry);
  save_latest();
  progress.say(fmt::format("step {}: validation {}", figures_.steps, task_.describe(*loss)));
  return true;
}

void Trainer::save_latest() {
  if (folder_ != nullptr) {
    mark("checkpoint", figures_.steps);
    save(folder_->latest());
  }
  saved_steps_ = figures_.steps;
}

void Trainer::mark(std::string_view stretch, int64_t step) {
  if (options_.profile != nullptr) options_.profile->begin(stretch, step);
}

void Trainer::save_before_error(Progress& progress) {
  if (folder_ == nullptr || saved_steps_ == figures_.steps || figures_.steps == 0) return;
  try {
    read_results();
    save_latest();
    progress.say(fmt::format("step {}: checkpoint written before the error", figures_.steps));
  } catch (const std::exception& error) {
    // What ended the training is the error to tell.
    progress.say(error.what());
  }
}

double Trainer::elapsed_seconds() const {
  const std::chrono::duration<double> here = std::chrono::steady_clock::now() - options_.start;
  return loaded_seconds_ + here.count();
}

void Trainer::save(const std::string& file) const {
  StateDict state;
  save_parameters(task_.model(), state);
  optimizer_.save(state);
  if (telemetry_) telemetry_->save(state);
  schedule_.save(state);
  task_.save(state);
  const json figures = {{"steps", figures_.steps},
                        {"total_steps", options_.total_steps},
                        {"examples", figures_.examples},
                        {"seconds", figures_.seconds},
                        {"elapsed_seconds", elapsed_seconds()},
                        {"epoch", figures_.epoch},
                        {"interval", figures_.interval},
                        {"epoch_losses", figures_.epoch_losses},
                        {"validations", figures_.validations},
                        {"last_loss", last_loss_}};
  state.set(kFiguresKey, figures.dump());
  save_safetensors(file, state);
}

void Trainer::load(const StateDict& state) {
  // The task first: it can say what differs in its own words.
  task_.load(state);
  load_parameters(state, task_.model());
  optimizer_.load(state);
  if (telemetry_) telemetry_->load(state);
  schedule_.load(state);
  try {
    const json figures = json::parse(state.text(kFiguresKey));
    figures.at("steps").get_to(figures_.steps);
    figures.at("total_steps").get_to(loaded_total_steps_);
    figures.at("examples").get_to(figures_.examples);
    figures.at("seconds").get_to(figures_.seconds);
    // Older checkpoints lack it.
    loaded_seconds_ = figures.value("elapsed_seconds", figures_.seconds.total());
    figures.at("epoch").get_to(figures_.epoch);
    figures.at("interval").get_to(figures_.interval);
    figures.at("epoch_losses").get_to(figures_.epoch_losses);
    figures.at("validations").get_to(figures_.validations);
    figures.at("last_loss").get_to(last_loss_);
    saved_steps_ = figures_.steps;
  } catch (const json::exception& error) {
    throw DataError(state.source, 0, fmt::format("\"{}\": {}", kFiguresKey, error.what()));
  }
}

}  // namespace sketchgrad::apps
