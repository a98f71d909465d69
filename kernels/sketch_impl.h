#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/sketch.h"

namespace sketchgrad::kernels {

// Fills slots of one depth; the group keys are the buckets without the sign.
struct SlotElement {
  uint64_t seed;
  int32_t depth_index;
  int64_t width;
  const int32_t* ids;
  Slot* slots;
  int32_t* buckets;
  SG_HD void operator()(int64_t r) const {
    const Slot slot = sketch_slot(seed, depth_index, ids != nullptr ? ids[r] : r, width);
    slots[r] = slot;
    buckets[r] = static_cast<int32_t>(slot_bucket(slot));
  }
};

namespace cpu {
void sketch_slots(const Exec&, const SlotElement& element, int64_t rows);
}  // namespace cpu

}  // namespace sketchgrad::kernels
