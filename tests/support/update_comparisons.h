#pragma once

#include "sketchgrad/framework/device.h"

// Test support: optimizer steps (kernels/update.h) on the CPU and on `other` (compare_devices.h),
// the sketched ones through the memories of optim/.
namespace sketchgrad::test {

// All rules, with dense state or none for each moment.
void compare_dense_steps(Device other);
// Every reading of either moment, beside dense state.
void compare_readings(Device other);
// Both moments in sketches, of one plan and of two; tables of one to very many columns.
void compare_sketched_pairs(Device other);
// Every depth, and buckets that very many rows share.
void compare_geometries(Device other);
// Memories of factors, of 16 and of 8 bits, beside each other, dense state and sketches.
void compare_memories(Device other);
// Sketches that are folded between steps.
void compare_folding(Device other);
// Entries with an id below 0 are no rows.
void compare_padded_steps(Device other);

}  // namespace sketchgrad::test
