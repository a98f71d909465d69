#pragma once

#include <memory>
#include <string>

#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad {

// Factor on the base learning rate.
class Schedule {
 public:
  virtual ~Schedule() = default;
  // For the step after `step` finished ones (0 before the first).
  virtual double factor(int64_t step) const = 0;
  // Told the validation loss whenever there is a new one.
  virtual void observe(double) {}
  virtual void save(StateDict&) const {}
  virtual void load(const StateDict&) {}
};

// Always 1.
std::unique_ptr<Schedule> constant_schedule();
// From 1 to 0 over total_steps.
std::unique_ptr<Schedule> linear_decay_schedule(int64_t total_steps);
// From 1 / warmup_steps to 1 over warmup_steps, then half a cosine to 0 at total_steps (Loshchilov
// & Hutter 2017).
std::unique_ptr<Schedule> warmup_cosine_schedule(int64_t warmup_steps, int64_t total_steps);
// Multiplied by `multiplier` when `patience` observations in a row were not below the best one.
std::unique_ptr<Schedule> plateau_schedule(double multiplier, int64_t patience);

// "constant", "linear", "cosine[:WARMUP_STEPS]" or "plateau[:MULTIPLIER[,PATIENCE]]".
std::unique_ptr<Schedule> parse_schedule(const std::string& text, int64_t total_steps);

}  // namespace sketchgrad
