#pragma once

#include <cstdint>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/lsh_rules.h"

namespace sketchgrad::kernels {

// The device bodies behind lsh.h. Requires what lsh.cpp has checked.
namespace cpu {
void row_norms(const Exec&, ConstMatrix rows, float* out);
void simhash_codes(const Exec&, ConstMatrix projections, int tables, int bits, int32_t* codes);
void wta_codes(const Exec&, ConstMatrix rows, WtaShape, const int32_t* columns, int32_t* codes);
void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights&);
}  // namespace cpu
namespace cuda {
void row_norms(const Exec&, ConstMatrix rows, float* out);
void simhash_codes(const Exec&, ConstMatrix projections, int tables, int bits, int32_t* codes);
void wta_codes(const Exec&, ConstMatrix rows, WtaShape, const int32_t* columns, int32_t* codes);
void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights&);
}  // namespace cuda

namespace impl {

template <class Policy>
void row_norms(const Policy& policy, ConstMatrix rows, float* out) {
  for_each(policy, rows.rows, RowNorm{rows, out});
}

template <class Policy>
void simhash_codes(const Policy& policy, ConstMatrix projections, int tables, int bits,
                   int32_t* codes) {
  for_each(policy, projections.rows * tables, PackSigns{projections, tables, bits, codes});
}

template <class Policy>
void wta_codes(const Policy& policy, ConstMatrix rows, WtaShape shape, const int32_t* columns,
               int32_t* codes) {
  for_each(policy, rows.rows * shape.tables, WtaCode{rows, shape, columns, codes});
}

template <class Policy>
void weigh_collisions(const Policy& policy, Matrix logits, const CollisionWeights& weights) {
  for_each_row(policy, logits.rows, logits.cols, WeighCollision{logits, weights});
}

}  // namespace impl
}  // namespace sketchgrad::kernels
