#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/framework/device.h"

namespace sketchgrad::bench {

// What a measured piece of code must do at the least, by a formula that is stated with it.
struct Work {
  double bytes = 0;  // each byte once: read 1, written 1, changed in place 2
  double flops = 0;  // a multiply-add counts 2
  std::string formula;
  bool in_cache = false;  // its arrays fit the second-level cache of a core
};

// Seconds a call, in order of measurement.
struct Timing {
  std::vector<double> samples;
  double median() const;
  double best() const;
};

// Median over the rounds of timing / base, which were measured in the same rounds.
double paired_ratio(const Timing& timing, const Timing& base);

struct Case {
  // Written out, or GCC 12 takes the members of a list of cases for uninitialised.
  Case(std::string the_name, Work the_work, std::function<void()> the_run,
       std::function<void()> the_preparation = {})
      : name(std::move(the_name)),
        work(std::move(the_work)),
        run(std::move(the_run)),
        prepare(std::move(the_preparation)) {}

  std::string name;
  Work work;
  std::function<void()> run;
  std::function<void()> prepare;  // before each run, not counted
};

// What times are read from. `cpu` is that of the calling thread: on a machine with other work it
// counts only what was really computed, and it means something with a single thread only.
enum class ClockKind { wall, cpu };
void use_clock(ClockKind kind);
// The device that everything is measured on; the CPU unless set before the first measurement.
void use_device(Device device);
Device device();
// Waits for the device first.
double seconds_now();

// One call times one or more parts of something and returns the seconds of each.
using PartsSampler = std::function<std::vector<double>()>;

// Calls all samplers in turn, round by round, so that a disturbance from outside hits all alike.
// Runs for about `seconds` a sampler, at least kMinRounds. result[sampler][part].
inline constexpr int kMinRounds = 7;
std::vector<std::vector<Timing>> measure_parts(const std::vector<PartsSampler>& samplers,
                                               double seconds);

// The same for cases; short ones run several times a sample.
std::vector<Timing> measure(const std::vector<Case>& cases, double seconds);

}  // namespace sketchgrad::bench
