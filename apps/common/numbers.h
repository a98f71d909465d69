#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>

// Checks of numbers, for CLI::Option::check. CLI11 alone takes 010 for 8, wraps -5 where there is
// no sign, cuts what is too large to what fits, and lets nan pass.
namespace sketchgrad::apps {

// Whole numbers in decimal digits, without leading zeros.
CLI::Validator whole_in(int64_t least, int64_t most);
CLI::Validator whole_from(int64_t least);
// Of 64 bits without a sign.
CLI::Validator any_seed();

// Finite decimal numbers.
CLI::Validator any_real();
CLI::Validator real_in(double least, double most);
CLI::Validator not_negative();
CLI::Validator positive();

}  // namespace sketchgrad::apps
