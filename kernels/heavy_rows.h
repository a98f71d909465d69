#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/kernels/views.h"

// Which rows of a table have a bucket of their own beside a sketch: those that gathered the most
// weight, found while rows go by, in memory for these rows alone. Slots come in sets of kSetWays, a
// row may lie in the set that it is hashed to, and a set decides by itself: a row of weight w that
// has no slot takes the one of the least weight c with probability w / (c + w), and that has
// the weight c + w from then on. (Ben Basat et al. 2017, "Randomized Admission Policy for Efficient
// Top-k and Frequency Estimation", in its set-associative form.) Rarely seen rows so hardly
// ever drive out frequent ones.
namespace sketchgrad::kernels {

inline constexpr int64_t kSetWays = 8;

struct HeavySets {
  int32_t* owners = nullptr;  // [sets, kSetWays]: table row, -1: free
  float* weights = nullptr;   // [sets, kSetWays]
  int64_t sets = 0;
  uint64_t seed = 0;

  SG_HD int64_t set_of(int64_t row) const {
    constexpr uint64_t kStream = 0x5E75;  // depths of a sketch are 0 to 7
    const uint64_t bits = philox(seed, kStream, static_cast<uint64_t>(row)).v[0];
    return static_cast<int64_t>((bits * static_cast<uint64_t>(sets)) >> 32);
  }
};

// Of the entries of one step.
struct HeavyClaims {
  static constexpr int32_t kNotMoved = -2;
  int32_t* slots = nullptr;     // [K]: the entry's slot, set * kSetWays + way; -1: none
  int32_t* previous = nullptr;  // [K]: of an entry that took its slot in this step the owner
                                // before, -1 where there was none; of all others kNotMoved
};

// Adds the entries' weights, none below 0, and gives out slots. Entry r is table row ids[r], or r
// where ids is null, and no row where ids[r] < 0. Nobody loses a slot in a step in which it is
// active. Random bits are those of (seed, step, row).
void claim_slots(const Exec&, const HeavySets&, const int32_t* ids, const float* weights,
                 int64_t rows, int64_t step, const HeavyClaims& claims);

// Of the entries that took their slot in this step, the buckets sketch.width + slot take what the
// sketch, of one depth, estimates: sign * cell of the row's bucket, times for each piece of
// columns, by step.rows,
//   constant   1
//   by_power   min(1, row state / |cells|^2)
//   by_scale   row state / mean of the cells, or the row state itself where that is 0.
// With by_power the row state of the owner before becomes 0: its bucket holds nothing of it.
void move_to_slots(const Exec&, const SketchView& sketch, const RowHash& hash,
                   const SketchStep& step, Matrix row_state, const int32_t* ids, int64_t rows,
                   const HeavyClaims& claims);

}  // namespace sketchgrad::kernels
