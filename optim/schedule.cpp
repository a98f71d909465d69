#include "sketchgrad/optim/schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "sketchgrad/framework/check.h"

namespace sketchgrad {

namespace {

class ConstantSchedule final : public Schedule {
 public:
  double factor(int64_t) const override { return 1.0; }
};

class LinearDecaySchedule final : public Schedule {
 public:
  explicit LinearDecaySchedule(int64_t total_steps) : total_(total_steps) {}
  double factor(int64_t step) const override {
    return std::max(0.0, 1.0 - static_cast<double>(step) / static_cast<double>(total_));
  }

 private:
  int64_t total_;
};

class WarmupCosineSchedule final : public Schedule {
 public:
  WarmupCosineSchedule(int64_t warmup_steps, int64_t total_steps)
      : warmup_(warmup_steps), total_(total_steps) {}
  double factor(int64_t step) const override {
    if (step < warmup_) return static_cast<double>(step + 1) / static_cast<double>(warmup_);
    const double progress =
        std::min(1.0, static_cast<double>(step - warmup_) / static_cast<double>(total_ - warmup_));
    return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }

 private:
  int64_t warmup_;
  int64_t total_;
};

class PlateauSchedule final : public Schedule {
 public:
  PlateauSchedule(double multiplier, int64_t patience)
      : multiplier_(multiplier), patience_(patience) {}
  double factor(int64_t) const override { return factor_; }
  void observe(double loss) override {
    if (loss < best_) {
      best_ = loss;
      waited_ = 0;
    } else if (++waited_ >= patience_) {
      factor_ *= multiplier_;
      waited_ = 0;
    }
  }
  void save(StateDict& state) const override {
    state.set_real("schedule.factor", factor_);
    state.set_real("schedule.best", best_);
    state.set_integer("schedule.waited", waited_);
  }
  void load(const StateDict& state) override {
    factor_ = state.real("schedule.factor");
    best_ = state.real("schedule.best");
    waited_ = state.integer("schedule.waited");
  }

 private:
  double multiplier_;
  int64_t patience_;
  double factor_ = 1.0;
  double best_ = std::numeric_limits<double>::infinity();
  int64_t waited_ = 0;
};

// Numbers after the colon of "name:a,b".
std::vector<double> parse_numbers(const std::string& text, size_t colon) {
  std::vector<double> numbers;
  for (size_t begin = colon; begin != std::string::npos && begin < text.size();) {
    const size_t comma = text.find(',', begin + 1);
    const size_t end = std::min(comma, text.size());
    double value = 0.0;
    const auto [stop, error] = std::from_chars(text.data() + begin + 1, text.data() + end, value);
    check(error == std::errc{} && stop == text.data() + end,
          "[schedule] '{}' in '{}' is not a number", text.substr(begin + 1, end - begin - 1), text);
    numbers.push_back(value);
    begin = comma;
  }
  return numbers;
}

}  // namespace

std::unique_ptr<Schedule> constant_schedule() { return std::make_unique<ConstantSchedule>(); }

std::unique_ptr<Schedule> linear_decay_schedule(int64_t total_steps) {
  check(total_steps > 0, "[schedule] linear decay over {} steps", total_steps);
  return std::make_unique<LinearDecaySchedule>(total_steps);
}

std::unique_ptr<Schedule> warmup_cosine_schedule(int64_t warmup_steps, int64_t total_steps) {
  check(warmup_steps >= 0 && warmup_steps < total_steps,
        "[schedule] {} warm-up steps must be fewer than the {} steps in all", warmup_steps,
        total_steps);
  return std::make_unique<WarmupCosineSchedule>(warmup_steps, total_steps);
}

std::unique_ptr<Schedule> plateau_schedule(double multiplier, int64_t patience) {
  check(multiplier > 0.0 && multiplier < 1.0, "[schedule] plateau multiplier {} is outside (0, 1)",
        multiplier);
  check(patience >= 1, "[schedule] plateau patience {} is below 1", patience);
  return std::make_unique<PlateauSchedule>(multiplier, patience);
}

std::unique_ptr<Schedule> parse_schedule(const std::string& text, int64_t total_steps) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const std::vector<double> numbers = parse_numbers(text, colon);
  const auto number = [&](size_t i, double fallback) {
    return i < numbers.size() ? numbers[i] : fallback;
  };
  const auto whole = [&](size_t i, double fallback) {
    const double value = number(i, fallback);
    check(value >= 0.0 && value <= 1e15 && value == std::floor(value),
          "[schedule] {} in '{}' must be a whole number of steps", value, text);
    return static_cast<int64_t>(value);
  };
  const auto at_most = [&](size_t most) {
    check(numbers.size() <= most, "[schedule] '{}' takes at most {} numbers, got '{}'", name, most,
          text);
  };
  if (name == "constant") {
    at_most(0);
    return constant_schedule();
  }
  if (name == "linear") {
    at_most(0);
    return linear_decay_schedule(total_steps);
  }
  if (name == "cosine") {
    at_most(1);
    return warmup_cosine_schedule(whole(0, 0.0), total_steps);
  }
  if (name == "plateau") {
    at_most(2);
    return plateau_schedule(number(0, 0.25), whole(1, 1.0));
  }
  throw InvalidArgument(fmt::format(
      "[schedule] unknown schedule '{}'; known are constant, linear, cosine[:WARMUP_STEPS], "
      "plateau[:MULTIPLIER[,PATIENCE]]",
      text));
}

}  // namespace sketchgrad
