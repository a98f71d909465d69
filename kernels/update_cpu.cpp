#include "sketchgrad/kernels/update_impl.h"
#include "sketchgrad/kernels/update_walk.h"

namespace sketchgrad::kernels::cpu {

void update_rows(const Exec&, const UpdateRule& rule, const ElementAccess& first,
                 const ElementAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter) {
  update_rows_impl(TbbPolicy{}, rule, first, second, ids, gradient, parameter);
}

void update_pieces(const Exec& exec, const UpdateRule& rule, const StateAccess& first,
                   const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                   Matrix parameter) {
  update_pieces_impl(TbbPolicy{}, exec, rule, first, second, ids, gradient, parameter);
}

}  // namespace sketchgrad::kernels::cpu
