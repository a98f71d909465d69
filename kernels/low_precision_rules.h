#pragma once

#include <cstdint>
#include <cstring>

#include "sketchgrad/kernels/macros.h"

// Floats of 16 and of 8 bits for the state of optimizers. Rounding is stochastic: up with the
// probability that the part behind has, so that a mean over many steps keeps what each of them
// adds, however small beside the whole. (Gupta et al. 2015, "Deep Learning with Limited Numerical
// Precision".) Float and Word: float and uint32_t, or as many of both side by side (lanes.h).
namespace sketchgrad::kernels {

// The same bits as another type of the same size.
template <class To, class From>
SG_HD To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- The random bits of rounding

// By (array, step, row, column), in two multiplications of 32 bits where Philox takes five of 64
// for a word: a row's key is the output of its number in a SplitMix64 sequence (Steele, Lea & Flood
// 2014, "Fast Splittable Pseudorandom Number Generators"), a column's bits are MurmurHash3's
// finaliser of the column from the one half of that key on, with the other half between the two
// multiplications.
struct RoundingKey {
  uint64_t word = 0;  // of array and step: any that has no pattern

  struct Row {
    uint32_t begin;
    uint32_t twist;
    template <class Word>
    SG_HD Word bits(Word column) const {
      Word x = column + begin;
      x ^= x >> 16;
      x *= 0x85EBCA6Bu;
      x ^= (x >> 13) ^ twist;
      x *= 0xC2B2AE35u;
      return x ^ (x >> 16);
    }
  };
  SG_HD Row row(int64_t id) const {
    uint64_t x = word + (static_cast<uint64_t>(id) + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return {static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)};
  }
};

// ---- bf16: the upper half of a float

template <class Float, class Word>
SG_HD Float bf16_to_float(Word bits) {
  return same_bits<Float>(bits << 16);
}
// `random`: 32 bits, of which the lower 16 are used. Infinity and NaN stay; the largest floats can
// be rounded to infinity. The result is in the lower half of the word.
template <class Float, class Word>
SG_HD Word float_to_bf16(Float x, Word random) {
  const Word bits = same_bits<Word>(x);
  const Word infinity = Word{} + 0x7F800000u;
  const Word rounded = (bits & infinity) == infinity ? bits : bits + (random & 0xFFFFu);
  return (x != x ? infinity | 0x00400000u : rounded) >> 16;
}

// ---- 8 bits, as multiples of a scale that a block of elements shares

// An element of at least 0: 5 bits of exponent, 3 of mantissa. With a sign: 1, 4 and 3. A code
// stands for the float that has it as its upper bits, exponents ending at that of 1, less kZero,
// the float of code 0. So steps are even from 0 to kZero, and at most 1/8 of value and kZero
// together above, and nothing has to be chosen by size.
template <bool kSigned>
struct Float8 {
  static constexpr uint32_t kMantissa = 3;
  static constexpr uint32_t kExponents = kSigned ? 15 : 31;  // the largest exponent, of 1.xxx
  static constexpr uint32_t kShift = 23 - kMantissa;
  static constexpr uint32_t kZeroBits = (127 - kExponents) << 23;
  static constexpr uint32_t kLargestBits = kZeroBits | ((kExponents << kMantissa | 7) << kShift);
  static constexpr float kZero = kSigned ? 0x1p-15f : 0x1p-31f;
  // The value of the largest code.
  static constexpr float kLargest = 1.875f - kZero;

  // Of a code in the lower 8 bits, others being 0.
  template <class Float, class Word>
  static SG_HD Float to_float(Word code) {
    const Word magnitude = kSigned ? code & 0x7Fu : code;
    const Float value = same_bits<Float>((magnitude << kShift) + kZeroBits) - kZero;
    if constexpr (!kSigned) return value;
    return same_bits<Float>(same_bits<Word>(value) | (code & 0x80u) << 24);
  }
  // x in multiples of the scale, at most kLargest; more counts as that, and a NaN, too. `random`:
  // 32 bits, of which the lower 20 are used. The code is in the lower 8 bits of the result.
  template <class Float, class Word>
  static SG_HD Word from_float(Float x, Word random) {
    const Word bits = same_bits<Word>(same_bits<Float>(same_bits<Word>(x) & 0x7FFFFFFFu) + kZero);
    const Word largest = Word{} + kLargestBits;
    const Word size = bits < largest ? bits : largest;
    const Word code = (size - kZeroBits + (random & ((1u << kShift) - 1u))) >> kShift;
    if constexpr (!kSigned) return code;
    const Word none{};
    return code | (x < Float{} ? none + 0x80u : none);
  }
};

// The bits of a float's magnitude. They compare as magnitudes do, with NaN above infinity.
template <class Word, class Float>
SG_HD Word magnitude_bits(Float x) {
  return same_bits<Word>(x) & 0x7FFFFFFFu;
}

struct Larger {
  SG_HD uint32_t operator()(uint32_t a, uint32_t b) const { return a > b ? a : b; }
};

// A block's scale from its largest magnitude; the inverse is 0 where all is 0, or so small that it
// has no inverse.
struct BlockScale {
  float scale;
  float inverse;
  template <bool kSigned>
  static SG_HD BlockScale of(float largest) {
    const float scale = largest * (1.0f / Float8<kSigned>::kLargest);
    const bool usable = scale >= 1.17549435e-38f;
    return {usable || scale != scale ? scale : 0.0f, usable ? 1.0f / scale : 0.0f};
  }
  static SG_HD BlockScale of(float largest, bool with_signs) {
    return with_signs ? of<true>(largest) : of<false>(largest);
  }
};

}  // namespace sketchgrad::kernels
