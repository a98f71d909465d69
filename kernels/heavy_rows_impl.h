#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/heavy_rows.h"

namespace sketchgrad::kernels {

// Of each entry: the key by which entries are grouped.
struct SetElement {
  HeavySets sets;
  const int32_t* ids;
  int32_t* keys;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = ids != nullptr ? ids[r] : r;
    keys[r] = id >= 0 ? static_cast<int32_t>(sets.set_of(id)) : -1;
  }
};

// One set: first those that have a slot, then the others in their order.
struct ClaimOfSet {
  HeavySets sets;
  Groups groups;
  const int32_t* ids;
  const float* entry_weights;
  PhiloxKey key;  // of the step
  HeavyClaims claims;

  SG_HD void operator()(int64_t g) const {
    const int32_t set = groups.keys[g];
    const int32_t begin = groups.begin[g], end = groups.begin[g + 1];
    int32_t* const owners = sets.owners + set * kSetWays;
    float* const weights = sets.weights + set * kSetWays;
    uint32_t active = 0;  // ways that entries of the step have
    for (int32_t i = begin; i < end; ++i) {
      const int32_t r = groups.order[i];
      claims.slots[r] = -1;
      claims.previous[r] = HeavyClaims::kNotMoved;
      if (set < 0) continue;
      for (int32_t way = 0; way < kSetWays; ++way) {
        if (owners[way] != row(r)) continue;
        weights[way] += entry_weights[r];
        active |= 1u << way;
        claims.slots[r] = set * static_cast<int32_t>(kSetWays) + way;
      }
    }
    if (set < 0) return;
    for (int32_t i = begin; i < end; ++i) {
      const int32_t r = groups.order[i];
      if (claims.slots[r] >= 0) continue;
      const int32_t way = lightest(owners, weights, active);
      if (way < 0) return;
      const float least = weights[way];
      const float weight = least + entry_weights[r];
      // No weight claims nothing, not even a free slot.
      const float uniform = uniform_from_bits(philox_bits(key, static_cast<uint64_t>(row(r))));
      if (!(uniform * weight < entry_weights[r])) continue;
      claims.slots[r] = set * static_cast<int32_t>(kSetWays) + way;
      claims.previous[r] = owners[way];
      owners[way] = row(r);
      weights[way] = weight;
      active |= 1u << way;
    }
  }

 private:
  SG_HD int32_t row(int32_t r) const { return ids != nullptr ? ids[r] : r; }
  SG_HD static int32_t lightest(const int32_t* owners, const float* weights, uint32_t active) {
    int32_t result = -1;
    for (int32_t way = 0; way < kSetWays; ++way) {
      if ((active >> way & 1u) != 0) continue;
      if (owners[way] < 0) return way;
      if (result < 0 || weights[way] < weights[result]) result = way;
    }
    return result;
  }
};

// One piece of an entry.
struct MoveToSlot {
  SketchView sketch;
  RowHash hash;
  bool with_signs;
  RowWeights weights;
  Matrix row_state;
  const int32_t* ids;
  HeavyClaims claims;
  int64_t piece_columns;
  int64_t pieces;

  SG_HD void operator()(int64_t unit) const {
    const int64_t r = unit / pieces, piece = unit % pieces;
    const int32_t previous = claims.previous[r];
    if (previous == HeavyClaims::kNotMoved) return;
    const int64_t id = ids != nullptr ? ids[r] : r;
    const int64_t begin = piece * piece_columns;
    const int64_t left = sketch.dim - begin;
    const int64_t columns = left < piece_columns ? left : piece_columns;
    const Slot place = hash.slot(0, id, sketch.width);
    const float* const from = sketch.bucket(0, slot_bucket(place)) + begin;
    float* const to = sketch.bucket(0, sketch.width + claims.slots[r]) + begin;
    float factor = with_signs ? slot_sign(place) : 1.0f, flat = 0.0f;
    if (weights == RowWeights::by_power) {
      float power = 0.0f;
      for (int64_t c = 0; c < columns; ++c) power += from[c] * from[c];
      factor *= wiener_trust(row_state(id, piece), power);
      if (previous >= 0) row_state(previous, piece) = 0.0f;
    } else if (weights == RowWeights::by_scale) {
      float sum = 0.0f;
      for (int64_t c = 0; c < columns; ++c) sum += from[c];
      // A copy: the row's scale stays as it is.
      float rho = row_state(id, piece);
      const ShapeWeights shape =
          shape_weights(rho, {1.0f, 0.0f, true}, 0.0f, sum / static_cast<float>(columns));
      factor = shape.decay;
      flat = shape.flat;
    }
    for (int64_t c = 0; c < columns; ++c) to[c] = factor * from[c] + flat;
  }
};

namespace cpu {
void set_keys(const Exec&, const SetElement& element, int64_t rows);
void claim_slots(const Exec&, const ClaimOfSet& claim);
void move_to_slots(const Exec&, const MoveToSlot& move, int64_t units);
}  // namespace cpu
namespace cuda {
void set_keys(const Exec&, const SetElement& element, int64_t rows);
void claim_slots(const Exec&, const ClaimOfSet& claim);
void move_to_slots(const Exec&, const MoveToSlot& move, int64_t units);
}  // namespace cuda

}  // namespace sketchgrad::kernels
