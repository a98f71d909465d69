#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/update_rules.h"

namespace sketchgrad::kernels {

// One optimizer step of `gradient.rows` rows: for every entry r and column c, with table row
// id = ids[r] (or r where ids is null),
//   parameter(id, c) = rule(parameter(id, c), g, first(r, id)(c, g), second(r, id)(c, g)).
// ids must be distinct. Shapes: parameter [table rows, D], gradient [K, D]; the views of the
// accesses have D columns too.
void update_rows(const Exec&, const UpdateRule& rule, const StateAccess& first,
                 const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter);

}  // namespace sketchgrad::kernels
