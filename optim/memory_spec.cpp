#include "sketchgrad/optim/memory_spec.h"

#include <array>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "sketchgrad/framework/check.h"
#include "sketchgrad/kernels/sketch_rules.h"

namespace sketchgrad {

namespace {

constexpr std::array<std::pair<Reading, std::string_view>, 9> kReadings{{
    {Reading::automatic, "automatic"},
    {Reading::requery, "requery"},
    {Reading::own_delta, "own_delta"},
    {Reading::mean_delta, "mean_delta"},
    {Reading::bucket_local, "bucket_local"},
    {Reading::linear, "linear"},
    {Reading::trusted, "trusted"},
    {Reading::wiener, "wiener"},
    {Reading::row_scaled, "row_scaled"},
}};

constexpr std::string_view kGrammar =
    "dense, none, rowwise, rank1, rank1:l2, sm3, sm3:1, bf16, int8, "
    "sketch:RATIO[,depth=N][,width=N][,reading=NAME][,clean=ALPHA/"
    "STEPS][,exact=SHARE][,cells=bf16], "
    "banded:RATIO[,...] or hybrid:RATIO[,...]";

constexpr double kHybridShare = 0.5;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <class Number>
Number parse_number(std::string_view text, std::string_view part) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc{} && end == text.data() + text.size() && !text.empty(),
        "[memory] '{}' in '{}' is not a number; expected {}", text, part, kGrammar);
  return value;
}

Reading parse_reading(std::string_view name) {
  std::string known;
  for (const auto& [reading, text] : kReadings) {
    if (text == name) return reading;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw InvalidArgument(fmt::format("[memory] unknown reading '{}'; known are {}", name, known));
}

Cleaning parse_cleaning(std::string_view text, std::string_view part) {
  const auto halves = split(text, '/');
  check(halves.size() == 2, "[memory] '{}' must be clean=ALPHA/STEPS, as in clean=0.5/125", part);
  const Cleaning cleaning{parse_number<float>(halves[0], part),
                          parse_number<int64_t>(halves[1], part)};
  check(cleaning.alpha >= 0.0f && cleaning.alpha <= 1.0f && cleaning.every >= 1,
        "[memory] '{}': ALPHA must be in [0, 1] and STEPS at least 1", part);
  return cleaning;
}

}  // namespace

std::string to_string(Reading reading) {
  for (const auto& [value, text] : kReadings) {
    if (value == reading) return std::string(text);
  }
  throw InvalidArgument("[memory] a reading outside the enumeration");
}

MemorySpec parse_memory(const std::string& text, MomentRole role) {
  if (text == "dense") return Dense{};
  if (text == "none") return None{};
  if (text == "rowwise") return RowWise{};
  if (text == "rank1") return RankOne{};
  if (text == "rank1:l2") return RankOneL2{};
  if (text == "sm3" || text == "sm3:2") return Sm3Covers{.variant = 2};
  if (text == "sm3:1") return Sm3Covers{.variant = 1};
  if (text == "bf16") return Bf16{};
  if (text == "int8") return Int8{};
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  check(colon != std::string::npos && (kind == "sketch" || kind == "banded" || kind == "hybrid"),
        "[memory] '{}' is not a memory; expected {}", text, kGrammar);
  const auto parts = split(std::string_view(text).substr(colon + 1), ',');
  CountMin spec;
  spec.banded = kind == "banded";
  if (kind == "hybrid") spec.exact = kHybridShare;
  spec.ratio = parse_number<double>(parts[0], text);
  check(spec.ratio > 0.0 && spec.ratio <= 1.0, "[memory] ratio {} in '{}' is outside (0, 1]",
        spec.ratio, text);
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    const std::string_view key = parts[i].substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? "" : parts[i].substr(equals + 1);
    if (key == "depth") {
      spec.depth = parse_number<int32_t>(value, parts[i]);
      check(spec.depth >= 1 && spec.depth <= kernels::kMaxSketchDepth,
            "[memory] depth {} is outside 1 to {}", spec.depth, kernels::kMaxSketchDepth);
    } else if (key == "width") {
      spec.width = parse_number<int64_t>(value, parts[i]);
      check(spec.width >= 1, "[memory] width {} is below 1", spec.width);
    } else if (key == "exact") {
      spec.exact = parse_number<double>(value, parts[i]);
      check(spec.exact > 0.0 && spec.exact < 1.0, "[memory] exact {} is outside (0, 1)",
            spec.exact);
    } else if (key == "cells") {
      check(value == "bf16" || value == "float", "[memory] '{}': cells are bf16 or float",
            parts[i]);
      spec.bf16 = value == "bf16";
    } else if (key == "reading") {
      spec.reading = parse_reading(value);
    } else if (key == "clean") {
      check(role == MomentRole::second,
            "[memory] '{}': cleaning is for second moments, which only grow", parts[i]);
      spec.cleaning = parse_cleaning(value, parts[i]);
    } else {
      throw InvalidArgument(
          fmt::format("[memory] unknown part '{}' in '{}'; expected {}", parts[i], text, kGrammar));
    }
  }
  if (role == MomentRole::second) return spec;
  return CountSketch{spec.ratio,  spec.depth, spec.width, spec.reading,
                     spec.banded, spec.exact, spec.bf16};
}

namespace {

template <class Sketch>
std::string sketch_text(const Sketch& spec) {
  const bool hybrid = spec.exact > 0.0 && !spec.banded;
  std::string text =
      fmt::format("{}:{}", hybrid ? "hybrid" : (spec.banded ? "banded" : "sketch"), spec.ratio);
  if (spec.depth != Sketch{}.depth) text += fmt::format(",depth={}", spec.depth);
  if (spec.width != 0) text += fmt::format(",width={}", spec.width);
  if (spec.reading != Reading::automatic) {
    text += fmt::format(",reading={}", to_string(spec.reading));
  }
  if (spec.exact != (hybrid ? kHybridShare : 0.0)) text += fmt::format(",exact={}", spec.exact);
  if (spec.bf16) text += ",cells=bf16";
  return text;
}

struct SpecText {
  std::string operator()(const Dense&) const { return "dense"; }
  std::string operator()(const None&) const { return "none"; }
  std::string operator()(const RowWise&) const { return "rowwise"; }
  std::string operator()(const RankOne&) const { return "rank1"; }
  std::string operator()(const RankOneL2&) const { return "rank1:l2"; }
  std::string operator()(const Sm3Covers& spec) const {
    return spec.variant == 1 ? "sm3:1" : "sm3";
  }
  std::string operator()(const Bf16&) const { return "bf16"; }
  std::string operator()(const Int8&) const { return "int8"; }
  std::string operator()(const CountSketch& spec) const { return sketch_text(spec); }
  std::string operator()(const CountMin& spec) const {
    std::string text = sketch_text(spec);
    if (spec.cleaning.every > 0) {
      text += fmt::format(",clean={}/{}", spec.cleaning.alpha, spec.cleaning.every);
    }
    return text;
  }
};

}  // namespace

std::string to_string(MomentRole role) { return role == MomentRole::first ? "first" : "second"; }

std::string to_string(const MemorySpec& spec) { return std::visit(SpecText{}, spec); }

}  // namespace sketchgrad
