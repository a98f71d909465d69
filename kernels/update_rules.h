#pragma once

#include <cmath>
#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/low_precision_rules.h"
#include "sketchgrad/kernels/macros.h"
#include "sketchgrad/kernels/views.h"

// The per-element mathematics of optimizer steps: `rules` (how a parameter moves, given its
// auxiliary values) and `accesses` (how an auxiliary value is advanced and read). update.h combines
// any rule with any two accesses, these or a sketch (sketch.h).
namespace sketchgrad::kernels {

// How an auxiliary variable takes in a gradient: x <- decay * x + scale * u, u = g or g^2.
struct Accumulate {
  float decay = 0;
  float scale = 1;
  bool squared = false;
  const float* decays = nullptr;  // [K]: of each entry, in the place of `decay`

  SG_HD Accumulate of_entry(int64_t r) const {
    return {decays != nullptr ? decays[r] : decay, scale, squared};
  }

  // A step that leaves the variable as it is.
  SG_HD Accumulate nothing() const { return {1.0f, 0.0f, squared}; }

  template <class T>  // a float, or floats side by side
  SG_HD T input(T g) const {
    return squared ? g * g : g;
  }
};

// ---- Rules: the parameter's new value from w, its gradient g, first moment m and second moment v.

// w - lr g
struct SgdRule {
  float learning_rate;
  SG_HD float operator()(float w, float g, float, float) const { return w - learning_rate * g; }
};

// Heavy ball (Polyak 1964): m <- momentum m + g, w - lr m. Nesterov (Sutskever et al. 2013):
// w - lr (g + momentum m).
struct MomentumRule {
  float learning_rate;
  float gradient_weight;  // 0, or 1 for Nesterov
  float momentum_weight;  // 1, or the momentum for Nesterov
  SG_HD float operator()(float w, float g, float m, float) const {
    return w - learning_rate * (gradient_weight * g + momentum_weight * m);
  }
};

// Adagrad (Duchi et al. 2011: v <- v + g^2) and RMSprop (Tieleman & Hinton 2012: v an average of
// g^2): w - lr g / (sqrt(initial + v) + epsilon). `initial` is what Adagrad's v begins with, kept
// apart from it so that no memory has to hold it for every row. As in PyTorch epsilon stands
// outside the root; the count-sketch paper's Algorithm 3 has it inside.
struct RootScaledRule {
  float learning_rate;
  float epsilon;
  float initial = 0.0f;
  SG_HD float operator()(float w, float g, float, float v) const {
    return w - learning_rate * g / (sqrtf(initial + v) + epsilon);
  }
};

// Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019):
//   w (1 - lr weight_decay) - lr (m / c1) / (sqrt(v / c2) + epsilon),  c_k = 1 - beta_k^t.
struct AdamRule {
  float step_size;                // lr / c1
  float inverse_sqrt_correction;  // 1 / sqrt(c2)
  float epsilon;
  float keep;  // 1 - lr weight_decay
  SG_HD float operator()(float w, float, float m, float v) const {
    return keep * w - step_size * m / (sqrtf(v) * inverse_sqrt_correction + epsilon);
  }
};

// SM3 (Anil et al. 2019) with the first moment in the gradient's place: w - lr m / (sqrt(v) +
// epsilon), and w where v is 0, as in the published code.
struct Sm3Rule {
  float learning_rate;
  float epsilon;
  SG_HD float operator()(float w, float, float m, float v) const {
    return v == 0.0f ? w : w - learning_rate * m / (sqrtf(v) + epsilon);
  }
};

using UpdateRule = std::variant<SgdRule, MomentumRule, RootScaledRule, AdamRule, Sm3Rule>;

// ---- Accesses. row(r, id) gives access to entry r of the step, table row id: an element's old
// value is loaded, its new one follows from the gradient and is stored. Loops load all that an
// element needs before they store anything: tables tend to lie at the same offset from a page, and
// a load that follows a store to the same offset waits for it.

// No state: the value is the gradient (the first moment of Adam at beta1 = 0).
struct NoState {
  struct Row {
    SG_HD float load(int64_t) const { return 0.0f; }
    SG_HD float next(float, float g) const { return g; }
    SG_HD void store(int64_t, float) const {}
  };
  SG_HD Row row(int64_t, int64_t) const { return {}; }
};

// One float an element, advanced in place.
struct DenseState {
  Matrix state;  // [table rows, columns]
  Accumulate accumulate;
  struct Row {
    float* x;
    Accumulate accumulate;
    SG_HD float load(int64_t c) const { return x[c]; }
    SG_HD float next(float old, float g) const {
      return accumulate.decay * old + accumulate.scale * accumulate.input(g);
    }
    SG_HD void store(int64_t c, float value) const { x[c] = value; }
  };
  SG_HD Row row(int64_t r, int64_t id) const { return {state.row(id), accumulate.of_entry(r)}; }
};

// Accesses that are advanced element by element in place, in the loop of the rule itself.
using ElementAccess = std::variant<NoState, DenseState>;

// ---- Accesses that are advanced a piece of a row at a time: the rule gets a piece's new values.
// Pieces are those of sketch_piece_columns. row(r, id) gives next(c, g), the new value.

// A factor a row and one a column: x = decay * f + scale * input(g), f the product or the minimum
// of both. Nothing is stored: what the factors take in comes before or after (factors.h).
struct FactoredState {
  const float* rows;     // [table rows]
  const float* columns;  // [columns]; null: the row's factor alone
  bool minimum;
  Accumulate accumulate;
  struct Row {
    float factor;
    const float* columns;
    bool minimum;
    Accumulate accumulate;
    SG_HD float next(int64_t c, float g) const {
      float f = factor;
      if (columns != nullptr) {
        const float other = columns[c];
        f = minimum ? (other < factor ? other : factor) : factor * other;
      }
      return accumulate.decay * f + accumulate.scale * accumulate.input(g);
    }
  };
  SG_HD Row row(int64_t r, int64_t id) const {
    return {rows[id], columns, minimum, accumulate.of_entry(r)};
  }
};

// The upper half of a float for each element, rounded stochastically. next_of and rounded are for
// elements side by side, too.
struct Bf16State {
  MatrixView<uint16_t> state;  // [table rows, columns], contiguous
  Accumulate accumulate;
  RoundingKey key;  // of the step
  struct Row {
    uint16_t* x;
    Accumulate accumulate;
    RoundingKey::Row random;
    template <class Float, class Word>
    SG_HD Float next_of(Word bits, Float g) const {
      return accumulate.decay * bf16_to_float<Float>(bits) + accumulate.scale * accumulate.input(g);
    }
    template <class Float, class Word>
    SG_HD Word rounded(Float value, Word column) const {
      return float_to_bf16(value, random.bits(column));
    }
    SG_HD float next(int64_t c, float g) const { return next_of(uint32_t{x[c]}, g); }
    SG_HD void store(int64_t c, float value) const {
      x[c] = static_cast<uint16_t>(rounded(value, static_cast<uint32_t>(c)));
    }
  };
  SG_HD Row row(int64_t r, int64_t id) const {
    return {state.row(id), accumulate.of_entry(r), key.row(id)};
  }
};

// Eight bits for each element and a scale for each piece of a row: its largest magnitude over
// Float8::kLargest. Rounded stochastically. (Dettmers et al. 2022, "8-bit Optimizers via Block-wise
// Quantization", with codes and rounding of our own.) An element's new value is next(); it is
// stored when the piece's scale is known. next_of and rounded are for elements side by side, too.
struct BlockState {
  MatrixView<uint8_t> codes;  // [table rows, columns], contiguous
  Matrix scales;              // [table rows, sketch_pieces(columns)]
  bool with_signs;
  Accumulate accumulate;
  RoundingKey key;  // of the step
  struct Row {
    uint8_t* codes;
    float* scales;
    bool with_signs;
    Accumulate accumulate;
    RoundingKey::Row random;
    template <bool kSigned, class Float, class Word>
    SG_HD Float next_of(Word code, Float g, float scale) const {
      return accumulate.decay * (scale * Float8<kSigned>::template to_float<Float>(code)) +
             accumulate.scale * accumulate.input(g);
    }
    template <bool kSigned, class Float, class Word>
    SG_HD Word rounded(Float value, Word column, float inverse_scale) const {
      return Float8<kSigned>::from_float(value * inverse_scale, random.bits(column));
    }
    SG_HD float next(int64_t c, float g, float scale) const {
      const uint32_t code = codes[c];
      return with_signs ? next_of<true>(code, g, scale) : next_of<false>(code, g, scale);
    }
    SG_HD void store(int64_t c, float value, float inverse_scale) const {
      const auto column = static_cast<uint32_t>(c);
      codes[c] = static_cast<uint8_t>(with_signs ? rounded<true>(value, column, inverse_scale)
                                                 : rounded<false>(value, column, inverse_scale));
    }
  };
  SG_HD Row row(int64_t r, int64_t id) const {
    return {codes.row(id), scales.row(id), with_signs, accumulate.of_entry(r), key.row(id)};
  }
};

using PieceAccess = std::variant<FactoredState, Bf16State, BlockState>;

}  // namespace sketchgrad::kernels
