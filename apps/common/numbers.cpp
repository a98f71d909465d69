#include "sketchgrad/apps/common/numbers.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <system_error>

namespace sketchgrad::apps {

namespace {

template <class Number>
std::optional<Number> parsed(const std::string& text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

bool has_leading_zero(const std::string& text) {
  const size_t first = text.starts_with('-') ? 1 : 0;
  return text.size() > first + 1 && text[first] == '0';
}

// fits(number): whether it is what `range` says. `help`: the same for the help text.
template <class Integer, class Fits>
CLI::Validator whole(const std::string& range, const std::string& help, Fits fits) {
  return {[=](std::string& text) {
            const auto number = parsed<Integer>(text);
            if (number && !has_leading_zero(text) && fits(*number)) return std::string();
            return fmt::format("{} must be a whole number {}", text, range);
          },
          help};
}

template <class Fits>
CLI::Validator real(const std::string& range, const std::string& help, Fits fits) {
  return {[=](std::string& text) {
            const auto number = parsed<double>(text);
            if (number && std::isfinite(*number) && fits(*number)) return std::string();
            return fmt::format("{} must be a finite number{}{}", text, range.empty() ? "" : " ",
                               range);
          },
          help};
}

}  // namespace

CLI::Validator whole_in(int64_t least, int64_t most) {
  return whole<int64_t>(fmt::format("from {} to {}", least, most),
                        fmt::format("{} TO {}", least, most),
                        [=](int64_t number) { return number >= least && number <= most; });
}

CLI::Validator whole_from(int64_t least) {
  return whole<int64_t>(fmt::format("of at least {}", least), fmt::format("AT LEAST {}", least),
                        [=](int64_t number) { return number >= least; });
}

CLI::Validator any_seed() {
  return whole<uint64_t>(fmt::format("from 0 to {}", std::numeric_limits<uint64_t>::max()), "",
                         [](uint64_t) { return true; });
}

CLI::Validator any_real() {
  return real("", "", [](double) { return true; });
}

CLI::Validator real_in(double least, double most) {
  return real(fmt::format("from {:g} to {:g}", least, most),
              fmt::format("{:g} TO {:g}", least, most),
              [=](double number) { return number >= least && number <= most; });
}

CLI::Validator not_negative() {
  return real("of at least 0", "AT LEAST 0", [](double number) { return number >= 0; });
}

CLI::Validator positive() {
  return real("above 0", "ABOVE 0", [](double number) { return number > 0; });
}

}  // namespace sketchgrad::apps
