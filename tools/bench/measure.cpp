#include "sketchgrad/tools/bench/measure.h"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace sketchgrad::bench {

namespace {

ClockKind clock_kind = ClockKind::wall;
Device measured_device = kCpu;

constexpr int kMaxRounds = 300;
// A sample is at least this long where its case may run several times.
constexpr double kMinSampleSeconds = 3e-4;

double median_of(std::vector<double> values) {
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle),
                   values.end());
  return values[middle];
}

double time_once(const Case& measured) {
  if (measured.prepare) measured.prepare();
  const double start = seconds_now();
  measured.run();
  return seconds_now() - start;
}

PartsSampler sampler_of(const Case& measured) {
  time_once(measured);  // touches memory, starts threads
  const double estimate = time_once(measured);
  const int repeats =
      measured.prepare ? 1 : static_cast<int>(std::ceil(kMinSampleSeconds / (estimate + 1e-9)));
  return [&measured, repeats]() -> std::vector<double> {
    if (repeats == 1) return {time_once(measured)};
    const double start = seconds_now();
    for (int i = 0; i < repeats; ++i) measured.run();
    return {(seconds_now() - start) / repeats};
  };
}

}  // namespace

double Timing::median() const { return median_of(samples); }

double Timing::best() const { return *std::min_element(samples.begin(), samples.end()); }

double paired_ratio(const Timing& timing, const Timing& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < timing.samples.size(); ++i) {
    ratios.push_back(timing.samples[i] / base.samples[i]);
  }
  return median_of(std::move(ratios));
}

void use_clock(ClockKind kind) { clock_kind = kind; }

void use_device(Device chosen) { measured_device = chosen; }

Device device() { return measured_device; }

double seconds_now() {
  synchronize(measured_device);
  timespec now;
  clock_gettime(clock_kind == ClockKind::cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::vector<Timing>> measure_parts(const std::vector<PartsSampler>& samplers,
                                               double seconds) {
  const size_t count = samplers.size();
  std::vector<std::vector<Timing>> timings(count);
  const double end = seconds_now() + seconds * static_cast<double>(count);
  for (int round = 0; round < kMaxRounds; ++round) {
    if (round >= kMinRounds && seconds_now() > end) break;
    for (size_t k = 0; k < count; ++k) {
      const std::vector<double> parts = samplers[k]();
      timings[k].resize(parts.size());
      for (size_t p = 0; p < parts.size(); ++p) timings[k][p].samples.push_back(parts[p]);
    }
  }
  return timings;
}

std::vector<Timing> measure(const std::vector<Case>& cases, double seconds) {
  std::vector<PartsSampler> samplers;
  for (const Case& measured : cases) samplers.push_back(sampler_of(measured));
  std::vector<Timing> timings;
  for (std::vector<Timing>& parts : measure_parts(samplers, seconds)) {
    timings.push_back(std::move(parts[0]));
  }
  return timings;
}

}  // namespace sketchgrad::bench
