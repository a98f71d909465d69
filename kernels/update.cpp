#include "sketchgrad/kernels/update.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/update_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_access(const char* name, const StateAccess& access, ConstMatrix gradient,
                  ConstMatrix parameter) {
  const char* op = "update_rows";
  const auto check_state = [&](ConstMatrix state, int64_t rows) {
    check_matrix(op, name, state);
    check_same_cols(op, name, state, "gradient", gradient);
    if (state.rows != rows) refuse(op, "{} has {} rows, it must have {}", name, state.rows, rows);
  };
  if (const auto* dense = std::get_if<DenseState>(&access)) {
    check_state(dense->state, parameter.rows);
  } else if (const auto* estimated = std::get_if<EstimatedState>(&access)) {
    check_state(estimated->estimate, gradient.rows);
  }
}

}  // namespace

void update_rows(const Exec& exec, const UpdateRule& rule, const StateAccess& first,
                 const StateAccess& second, const int32_t* ids, ConstMatrix gradient,
                 Matrix parameter) {
  const char* op = "update_rows";
  check_matrix(op, "gradient", gradient);
  check_matrix(op, "parameter", parameter);
  check_same_cols(op, "gradient", gradient, "parameter", parameter);
  if (gradient.rows > parameter.rows || (ids == nullptr && gradient.rows != parameter.rows)) {
    refuse(op, "gradient [{}, {}] does not fit parameter [{}, {}]", gradient.rows, gradient.cols,
           parameter.rows, parameter.cols);
  }
  check_access("first", first, gradient, parameter);
  check_access("second", second, gradient, parameter);
  dispatch(exec, cpu::update_rows, cuda::update_rows, rule, first, second, ids, gradient,
           parameter);
}

}  // namespace sketchgrad::kernels
