#pragma once

#include "sketchgrad/framework/device.h"

// Test support: every public entry of kernels/*.h but update_rows (update_comparisons.h), on the
// CPU and on `other` (compare_devices.h).
namespace sketchgrad::test {

void compare_elementwise(Device other);
void compare_gemm(Device other);
// Products whose factors may be rounded to TF32 and bf16; on the CPU that this is refused.
void compare_rounded_gemm(Device other);
void compare_row_access(Device other);
void compare_id_searches(Device other);
void compare_groups(Device other);
void compare_reductions(Device other);
void compare_factors(Device other);
void compare_random(Device other);
void compare_lstm(Device other);
// The layer by cuDNN, in float32 and with TF32, with lstm_layer_reference.h on the CPU, which has
// no kernel for it.
void compare_lstm_layer(Device other);
void compare_softmax(Device other);
void compare_candidate_softmax(Device other);
// Products of sparse matrices with tables, and losses of several labels a token.
void compare_csr(Device other);
void compare_multi_label(Device other);
void compare_hashes(Device other);
void compare_sketch_plans(Device other);

}  // namespace sketchgrad::test
