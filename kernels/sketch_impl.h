#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/sketch.h"

namespace sketchgrad::kernels {

// Fills slots of one depth; the group keys are the buckets without the sign, -1 for what is no row.
struct SlotElement {
  RowHash hash;
  int32_t depth_index;
  int64_t width;
  const int32_t* own_slots;  // null: no row has a bucket of its own
  const int32_t* ids;
  Slot* slots;
  int32_t* buckets;
  SG_HD void operator()(int64_t r) const {
    const int64_t id = ids != nullptr ? ids[r] : r;
    const bool own = own_slots != nullptr && own_slots[r] >= 0;
    const Slot slot =
        own ? static_cast<Slot>(width + own_slots[r]) : hash.slot(depth_index, id, width);
    slots[r] = slot;
    buckets[r] = id >= 0 ? static_cast<int32_t>(slot_bucket(slot)) : -1;
  }
};

// For for_each_row over the buckets of all depths of `to`.
struct FoldBuckets {
  SketchView from;
  int64_t unit;
  float weight;
  SketchView to;
  struct Column {
    SketchView from;
    int64_t first;   // places of buckets
    int64_t second;  // -1: none
    float weight;
    SketchView to;
    int64_t place;
    SG_HD void operator()(int64_t c) const {
      const float value = from.load(first, c);
      to.store(place, c, second < 0 ? value : weight * (value + from.load(second, c)));
    }
  };
  SG_HD Column operator()(int64_t r) const {
    const int64_t depth_index = r / to.width, bucket = r % to.width;
    const int64_t first = bucket / unit * 2 * unit + bucket % unit, second = first + unit;
    const bool alone = second >= from.width / unit * unit;
    return {from,
            from.place(depth_index, first),
            alone ? -1 : from.place(depth_index, second),
            weight,
            to,
            r};
  }
};

// For for_each_row over the buckets of all depths.
struct ScaleBuckets {
  SketchView sketch;
  float factor;
  struct Column {
    SketchView sketch;
    int64_t place;
    float factor;
    SG_HD void operator()(int64_t c) const {
      sketch.store(place, c, factor * sketch.load(place, c));
    }
  };
  SG_HD Column operator()(int64_t r) const { return {sketch, r, factor}; }
};

namespace cpu {
void sketch_slots(const Exec&, const SlotElement& element, int64_t rows);
void fold_sketch(const Exec&, const FoldBuckets& fold);
void scale_sketch(const Exec&, const ScaleBuckets& scale);
}  // namespace cpu
namespace cuda {
void sketch_slots(const Exec&, const SlotElement& element, int64_t rows);
void fold_sketch(const Exec&, const FoldBuckets& fold);
void scale_sketch(const Exec&, const ScaleBuckets& scale);
}  // namespace cuda

}  // namespace sketchgrad::kernels
