#pragma once

#include <cstdint>
#include <variant>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/kernels/update_rules.h"

namespace sketchgrad::kernels {

// How an auxiliary variable is advanced and read: an ElementAccess, a PieceAccess or a sketch.
using StateAccess =
    std::variant<NoState, DenseState, SketchState, FactoredState, Bf16State, BlockState>;

// One optimizer step of `gradient.rows` rows: for every entry r and column c, with table row
// id = ids[r] (or r where ids is null; an entry with an id below 0 is no row),
//   parameter(id, c) = rule(parameter(id, c), g, x1, x2),
// x1 and x2 the new values of the two auxiliary variables. ids must be distinct. Shapes: parameter
// [table rows, D], gradient [K, D]; the views of the accesses have D columns too, and the plan of a
// sketch K rows. Workspace of a sketch: D floats for each bucket that several active rows share,
// and 8 bytes for each active row and depth.
void update_rows(const Exec&, const UpdateRule& rule, const StateAccess& first,
                 const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter);

}  // namespace sketchgrad::kernels
