#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/update_rules.h"
#include "sketchgrad/kernels/views.h"

// What factored state (a float a row, a float a column: row-wise, rank-one, SM3 memories) needs of
// the gradient of a step. Gradient [K, D]; entry r is table row ids[r], or r where ids is null, and
// no row at all where ids[r] < 0. Reductions run in double and in a fixed order: the same bits for
// any number of threads.
namespace sketchgrad::kernels {

// out[r] = sum over c of input(g(r, c)), input(g) = g or g^2.
void row_sums(const Exec&, const int32_t* ids, ConstMatrix gradient, bool squared, float* out);
// out[c] = sum over r of input(g(r, c)).
void column_sums(const Exec&, const int32_t* ids, ConstMatrix gradient, bool squared, float* out);

// Products with the inputs, for rank-one factors:
// out[r] = sum over c of input(g(r, c)) * columns[c],
void row_products(const Exec&, const int32_t* ids, ConstMatrix gradient, bool squared,
                  const float* columns, float* out);
// out[c] = sum over r of input(g(r, c)) * entries[r].
void column_products(const Exec&, const int32_t* ids, ConstMatrix gradient, bool squared,
                     const float* entries, float* out);

// Maxima over a row, or a column, of
//   keep * min(row_cover[id], column_cover[c]) + scale * g(r, c)^2;
// 0 for no entries.
struct Covers {
  const float* rows;     // [table rows]
  const float* columns;  // [D]
  float keep;
  float scale;
};
void row_maxima(const Exec&, const int32_t* ids, ConstMatrix gradient, const Covers&, float* out);
void column_maxima(const Exec&, const int32_t* ids, ConstMatrix gradient, const Covers&,
                   float* out);

// *out = sum of x[id] over the entries r < count.
void sum_of_entries(const Exec&, const int32_t* ids, int64_t count, const float* x, float* out);
// *out = sum of x[id] * y[r] over the entries r < count.
void sum_of_products(const Exec&, const int32_t* ids, int64_t count, const float* x, const float* y,
                     double* out);

// x[id] = decay * x[id] + scale * values[r] for the entries r, with decay and scale of `rule`.
void advance_entries(const Exec&, const int32_t* ids, int64_t count, const Accumulate& rule,
                     const float* values, float* x);

// Rows that steps left out: out[r] = decay^(step - last_steps[id]), the decay itself where
// last_steps[id] is 0; and last_steps[id] = step. step < 2^31.
void decays_since(const Exec&, const int32_t* ids, int64_t count, const int32_t* last_steps,
                  int64_t step, float decay, float* out);
void set_last_steps(const Exec&, const int32_t* ids, int64_t count, int64_t step,
                    int32_t* last_steps);

// out[r] = x[id] + scale * values[r] for the entries r, 0 for those that are no row.
void add_to_entries(const Exec&, const int32_t* ids, int64_t count, const float* x, float scale,
                    const float* values, float* out);

// x[i] = max(x[i], values[i]); a NaN stays one.
void raise_entries(const Exec&, const float* values, int64_t count, float* x);

// x[c] = decay * x[c] + scale * values[c] with a decay that lies on the device:
// decay = 1 + (entry_decay - 1) * factor * part / whole, and entry_decay where whole is 0: what
// a sum over all rows keeps where `part` of it decays. Where entries decay each by their own,
// `kept` is what is left of the part.
struct PartialDecay {
  float entry_decay;
  float factor;
  const float* part;
  const float* whole;
  const float* kept = nullptr;
};
void advance_columns(const Exec&, const PartialDecay&, float scale, const float* values,
                     int64_t count, float* x);

// out[c] = count * x[c] / *total: multiples of the mean; 1 where *total is 0.
void over_mean(const Exec&, const float* x, const float* total, int64_t count, float* out);

// The root of one or two sums of squares that lie on the device.
struct Length {
  const double* squares;
  const double* more = nullptr;
};
// x[i] = x[i] / length; otherwise[i] where the length is 0 (null: x[i] stays).
void over_length(const Exec&, const Length&, int64_t count, float* x,
                 const float* otherwise = nullptr);
// x[i] = *factor * x[i].
void multiply_by(const Exec&, const double* factor, int64_t count, float* x);
// out[c] = (*whole + scale * *part) / length * columns[c] + scale * out[c]; the first product is 0
// where the length is.
struct ColumnWeight {
  const double* whole;
  const double* part;
  Length length;
};
void combine_columns(const Exec&, const ColumnWeight&, float scale, const float* columns,
                     int64_t count, float* out);

// Covers of one axis of the columns, which are a tensor [outer, size, inner] flattened:
// out[c] = min(out[c], cover[axis index of c]), and out[k] = max over the columns of index k.
struct ColumnAxis {
  int64_t outer = 1;
  int64_t size = 1;
  int64_t inner = 1;
};
void spread_minimum(const Exec&, const ColumnAxis&, const float* cover, float* out);
void axis_maxima(const Exec&, const ColumnAxis&, const float* columns, float* out);

}  // namespace sketchgrad::kernels
