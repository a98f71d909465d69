#pragma once

#include <cstdint>

#include "sketchgrad/kernels/macros.h"

// Kernels whose threads work together do so in lane groups: 1, 2, 4, ... or 32 neighbouring threads
// of one warp, which exchange values in registers. A loop policy runs body(group, unit) for every
// unit with all lanes of a group, through for_each_unit(policy, units, lanes, body); units know
// nothing of each other. The CUDA policy has it in cuda_policy.cuh; tests run the same bodies on an
// emulated warp, whose lanes take turns in any order.
namespace sketchgrad::kernels {

inline constexpr int kWarpLanes = 32;

// What a body asks of its group:
//   int lane() const, int lanes() const;
//   T exchange(T value, int mask) const: the `value` of lane() ^ mask, mask below lanes(). All
//   lanes of the group have to call it, with the same mask. void sync() const: what lanes read and
//   wrote before comes before what any lane does after.

// In a fixed order, by halves. Each lane has its own order of operands: all get the same bits where
// combine(a, b) has those of combine(b, a), otherwise only those of one lane repeat.
template <class Group, class T, class Combine>
SG_HD T combine_over_lanes(const Group& group, T value, const Combine& combine) {
  for (int mask = group.lanes() / 2; mask > 0; mask /= 2) {
    value = combine(value, group.exchange(value, mask));
  }
  return value;
}

struct Plus {
  template <class T>
  SG_HD T operator()(T a, T b) const {
    return a + b;
  }
};

template <class Group, class T>
SG_HD T sum_over_lanes(const Group& group, T value) {
  return combine_over_lanes(group, value, Plus{});
}

}  // namespace sketchgrad::kernels
