#include "sketchgrad/tools/bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace sketchgrad::bench {

namespace {

std::string format_seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1.0) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.3f} s", seconds);
}

std::string format_amount(double value, const char* unit) {
  if (value < 1e6) return fmt::format("{:.1f} k{}", value * 1e-3, unit);
  if (value < 1e9) return fmt::format("{:.1f} M{}", value * 1e-6, unit);
  return fmt::format("{:.2f} G{}", value * 1e-9, unit);
}

double byte_seconds(const Peaks& peaks, const Work& work) {
  const double bandwidth = work.in_cache ? peaks.cache_bandwidth : peaks.memory_bandwidth;
  return bandwidth > 0 ? work.bytes / bandwidth : 0.0;
}

double flop_seconds(const Peaks& peaks, const Work& work) {
  return peaks.flops > 0 ? work.flops / peaks.flops : 0.0;
}

}  // namespace

double Peaks::floor(const Work& work) const {
  return std::max(byte_seconds(*this, work), flop_seconds(*this, work));
}

bool Peaks::bound_by_flops(const Work& work) const {
  return work.bytes == 0 || flop_seconds(*this, work) > byte_seconds(*this, work);
}

void Report::begin_group(const std::string& name, const std::string& description) {
  group_ = name;
  fmt::print("\n{}: {}\n", name, description);
  fmt::print("  {:<30} {:>9} {:>9} {:>10} {:>13} {:>9} {:>6} {:>6} {:>6}  {}\n", "", "median",
             "best", "work", "rate", "floor", "% med", "% best", "ratio", "formula");
  std::fflush(stdout);
}

void Report::add(const std::string& name, const Work& work, const Timing& timing,
                 std::optional<double> ratio) {
  const bool flops = peaks_.bound_by_flops(work);
  const double amount = flops ? work.flops : work.bytes;
  const char* unit = flops ? "FLOP" : "B";
  const double median = timing.median();
  const double best = timing.best();
  const double floor = peaks_.floor(work);
  fmt::print("  {:<30} {:>9} {:>9} {:>10} {:>13} {:>9} {:>6.1f} {:>6.1f} {:>6}  {}\n", name,
             format_seconds(median), format_seconds(best), format_amount(amount, unit),
             format_amount(amount / median, unit) + "/s", format_seconds(floor),
             100.0 * floor / median, 100.0 * floor / best,
             ratio ? fmt::format("{:.2f}", *ratio) : "", work.formula);
  std::fflush(stdout);
  nlohmann::json line = {{"group", group_},
                         {"name", name},
                         {"median_seconds", median},
                         {"best_seconds", best},
                         {"samples", timing.samples.size()},
                         {"bytes", work.bytes},
                         {"flops", work.flops},
                         {"formula", work.formula},
                         {"in_cache", work.in_cache},
                         {"bound_by", flops ? "flops" : "bytes"},
                         {"rate_per_second", amount / median},
                         {"floor_seconds", floor},
                         {"percent_of_floor", 100.0 * floor / median}};
  if (ratio) line["ratio"] = *ratio;
  lines_.push_back(std::move(line));
}

void Report::note(const std::string& name, double value, const std::string& unit) {
  fmt::print("  {:<30} {:.6g} {}\n", name, value, unit);
  std::fflush(stdout);
  lines_.push_back({{"group", group_}, {"name", name}, {"value", value}, {"unit", unit}});
}

}  // namespace sketchgrad::bench
