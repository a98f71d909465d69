#include "sketchgrad/kernels/factors.h"

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/factors_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_axis(const char* op, const ColumnAxis& axis) {
  if (axis.outer < 0 || axis.size < 0 || axis.inner < 0) {
    refuse(op, "axis [{}, {}, {}], sizes must not be negative", axis.outer, axis.size, axis.inner);
  }
}

void check_entries(const char* op, int64_t count, int64_t step, const int32_t* last_steps) {
  check_count(op, "count", count);
  check_array(op, "last_steps", last_steps, count);
  if (step < 1 || step > INT32_MAX) refuse(op, "step {} is outside 1 to {}", step, INT32_MAX);
}

}  // namespace

void row_sums(const Exec& exec, const int32_t* ids, ConstMatrix gradient, bool squared,
              float* out) {
  check_matrix("row_sums", "gradient", gradient);
  check_array("row_sums", "out", out, gradient.rows);
  dispatch(exec, cpu::reduce_rows, cuda::reduce_rows,
           FactorElement{InputElement{ids, gradient, squared}}, out);
}

void column_sums(const Exec& exec, const int32_t* ids, ConstMatrix gradient, bool squared,
                 float* out) {
  check_matrix("column_sums", "gradient", gradient);
  check_array("column_sums", "out", out, gradient.cols);
  dispatch(exec, cpu::reduce_columns, cuda::reduce_columns,
           FactorElement{InputElement{ids, gradient, squared}}, out);
}

void row_products(const Exec& exec, const int32_t* ids, ConstMatrix gradient, bool squared,
                  const float* columns, float* out) {
  check_matrix("row_products", "gradient", gradient);
  check_array("row_products", "columns", columns, gradient.cols);
  check_array("row_products", "out", out, gradient.rows);
  dispatch(exec, cpu::reduce_rows, cuda::reduce_rows,
           FactorElement{ProductElement{ids, gradient, squared, columns, nullptr}}, out);
}

void column_products(const Exec& exec, const int32_t* ids, ConstMatrix gradient, bool squared,
                     const float* entries, float* out) {
  check_matrix("column_products", "gradient", gradient);
  check_array("column_products", "entries", entries, gradient.rows);
  check_array("column_products", "out", out, gradient.cols);
  dispatch(exec, cpu::reduce_columns, cuda::reduce_columns,
           FactorElement{ProductElement{ids, gradient, squared, nullptr, entries}}, out);
}

void row_maxima(const Exec& exec, const int32_t* ids, ConstMatrix gradient, const Covers& covers,
                float* out) {
  check_matrix("row_maxima", "gradient", gradient);
  check_array("row_maxima", "out", out, gradient.rows);
  check_array("row_maxima", "row covers", covers.rows, gradient.rows);
  check_array("row_maxima", "column covers", covers.columns, gradient.cols);
  dispatch(exec, cpu::reduce_rows, cuda::reduce_rows,
           FactorElement{CoverElement{ids, gradient, covers}}, out);
}

void column_maxima(const Exec& exec, const int32_t* ids, ConstMatrix gradient, const Covers& covers,
                   float* out) {
  check_matrix("column_maxima", "gradient", gradient);
  check_array("column_maxima", "out", out, gradient.cols);
  check_array("column_maxima", "row covers", covers.rows, gradient.rows);
  check_array("column_maxima", "column covers", covers.columns, gradient.cols);
  dispatch(exec, cpu::reduce_columns, cuda::reduce_columns,
           FactorElement{CoverElement{ids, gradient, covers}}, out);
}

void sum_of_entries(const Exec& exec, const int32_t* ids, int64_t count, const float* x,
                    float* out) {
  check_count("sum_of_entries", "count", count);
  check_array("sum_of_entries", "x", x, count);
  check_array("sum_of_entries", "out", out, 1);
  dispatch(exec, cpu::sum_of_entries, cuda::sum_of_entries, EntryElement{ids, x}, count, out);
}

void sum_of_products(const Exec& exec, const int32_t* ids, int64_t count, const float* x,
                     const float* y, double* out) {
  check_count("sum_of_products", "count", count);
  check_array("sum_of_products", "x", x, count);
  check_array("sum_of_products", "y", y, count);
  check_array("sum_of_products", "out", out, 1);
  dispatch(exec, cpu::sum_of_products, cuda::sum_of_products, EntryProduct{ids, x, y}, count, out);
}

void advance_entries(const Exec& exec, const int32_t* ids, int64_t count, const Accumulate& rule,
                     const float* values, float* x) {
  check_count("advance_entries", "count", count);
  check_array("advance_entries", "values", values, count);
  check_array("advance_entries", "x", x, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{AdvanceEntry{ids, rule, values, x}}, count);
}

void decays_since(const Exec& exec, const int32_t* ids, int64_t count, const int32_t* last_steps,
                  int64_t step, float decay, float* out) {
  check_entries("decays_since", count, step, last_steps);
  check_array("decays_since", "out", out, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{DecaySince{ids, last_steps, static_cast<int32_t>(step), decay, out}}, count);
}

void set_last_steps(const Exec& exec, const int32_t* ids, int64_t count, int64_t step,
                    int32_t* last_steps) {
  check_entries("set_last_steps", count, step, last_steps);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{SetLastStep{ids, static_cast<int32_t>(step), last_steps}}, count);
}

void add_to_entries(const Exec& exec, const int32_t* ids, int64_t count, const float* x,
                    float scale, const float* values, float* out) {
  check_count("add_to_entries", "count", count);
  check_array("add_to_entries", "x", x, count);
  check_array("add_to_entries", "values", values, count);
  check_array("add_to_entries", "out", out, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{AddToEntry{ids, x, scale, values, out}}, count);
}

void raise_entries(const Exec& exec, const float* values, int64_t count, float* x) {
  check_count("raise_entries", "count", count);
  check_array("raise_entries", "values", values, count);
  check_array("raise_entries", "x", x, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor, FactorLoop{RaiseEntry{values, x}},
           count);
}

void advance_columns(const Exec& exec, const PartialDecay& decay, float scale, const float* values,
                     int64_t count, float* x) {
  check_count("advance_columns", "count", count);
  check_array("advance_columns", "values", values, count);
  check_array("advance_columns", "x", x, count);
  check_array("advance_columns", "part", decay.part, 1);
  check_array("advance_columns", "whole", decay.whole, 1);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{AdvanceColumn{decay, scale, values, x}}, count);
}

void over_mean(const Exec& exec, const float* x, const float* total, int64_t count, float* out) {
  check_count("over_mean", "count", count);
  check_array("over_mean", "x", x, count);
  check_array("over_mean", "total", total, 1);
  check_array("over_mean", "out", out, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{OverMean{x, total, static_cast<float>(count), out}}, count);
}

void over_length(const Exec& exec, const Length& length, int64_t count, float* x,
                 const float* otherwise) {
  check_count("over_length", "count", count);
  check_array("over_length", "squares", length.squares, 1);
  check_array("over_length", "x", x, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{OverLength{length, x, otherwise}}, count);
}

void multiply_by(const Exec& exec, const double* factor, int64_t count, float* x) {
  check_count("multiply_by", "count", count);
  check_array("multiply_by", "factor", factor, 1);
  check_array("multiply_by", "x", x, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor, FactorLoop{MultiplyBy{factor, x}},
           count);
}

void combine_columns(const Exec& exec, const ColumnWeight& weight, float scale,
                     const float* columns, int64_t count, float* out) {
  check_count("combine_columns", "count", count);
  check_array("combine_columns", "whole", weight.whole, 1);
  check_array("combine_columns", "part", weight.part, 1);
  check_array("combine_columns", "squares", weight.length.squares, 1);
  check_array("combine_columns", "columns", columns, count);
  check_array("combine_columns", "out", out, count);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{CombineColumn{weight, scale, columns, out}}, count);
}

void spread_minimum(const Exec& exec, const ColumnAxis& axis, const float* cover, float* out) {
  check_axis("spread_minimum", axis);
  const int64_t columns = axis.outer * axis.size * axis.inner;
  check_array("spread_minimum", "cover", cover, columns > 0 ? axis.size : 0);
  check_array("spread_minimum", "out", out, columns);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{SpreadMinimum{axis, cover, out}}, columns);
}

void axis_maxima(const Exec& exec, const ColumnAxis& axis, const float* columns, float* out) {
  check_axis("axis_maxima", axis);
  check_array("axis_maxima", "columns", columns, axis.outer * axis.size * axis.inner);
  check_array("axis_maxima", "out", out, axis.size);
  dispatch(exec, cpu::for_each_factor, cuda::for_each_factor,
           FactorLoop{AxisMaximum{axis, columns, out}}, axis.size);
}

}  // namespace sketchgrad::kernels
