#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace sketchgrad {

// How a sketch takes in one step and what its rows get back. With e the estimate of a row before
// the step, u its input, delta = (decay - 1) e + scale u and k the rows of this step in a bucket:
//   reading       bucket                                   row's new value
//   requery       + sum of deltas                          the sketch queried again
//   own_delta     + sum of deltas                          e + delta
//   mean_delta    + mean of deltas                         e + delta
//   bucket_local  (1 + k (decay - 1)) old + scale sum u    e + delta
//   linear        decay old (all buckets) + scale sum u    e + delta
//   trusted       + mean of deltas                         trust-weighted
//   wiener        decay old + scale sum u                  trust-weighted
//   row_scaled    decay old + sum of u / mean(u)           rho decay e / mean(e) + scale u
// requery is Algorithms 2-4 of Spring et al. 2019 for a batch; bucket_local is what their published
// code computes, less its races. The last three (this project; kernels/sketch_rules.h) weigh each
// piece of a row's columns: `trusted` by how far the depths disagree, `wiener` by the power of the
// row's own moment, tracked in one float, `row_scaled` by the row's own scale, kept in one float.
// trusted and wiener are for signed sketches, row_scaled for count-min ones.
enum class Reading : uint8_t {
  automatic,  // the default found by measurement: docs/results/readings.md
  requery,
  own_delta,
  mean_delta,
  bucket_local,
  linear,
  trusted,
  wiener,
  row_scaled,
};
std::string to_string(Reading);

// ---- What holds an auxiliary variable of an optimizer (see state_memory.h).

// One float an element.
struct Dense {};

// Nothing: the variable is not kept. For a first moment: Adam with beta1 = 0.
struct None {};

// Signed count-sketch for first moments. `ratio` is its bytes, all included, over those of Dense;
// `width` > 0 gives the buckets a depth instead. depth 0: the reading's own (3; 1 for wiener and
// row_scaled). Automatic is wiener, or trusted for tables so narrow that the floats it keeps with a
// row (one for each piece of the columns: kernels::sketch_pieces) would take half of the bytes.
//
// banded: neighbouring rows of the table share a bucket instead of random ones (kernels::RowHash);
// for tables whose rows go by falling frequency, or have such an order in Moments::row_order, whose
// 4 bytes a row come on top of `ratio`. depth 0 is then 1, or 3 where the reading is trusted.
//
// exact: the share of the bytes, without the floats that the reading keeps with rows, that goes to
// exact state of the heaviest rows, chosen online (heavy_rows.h); the others live in the sketch. Of
// depth 1, by a ratio; automatic is then wiener for tables of any width.
//
// bf16: cells of 16 bits, rounded stochastically, so that there are twice as many; not beside exact
// rows.
struct CountSketch {
  double ratio = 0.2;
  int32_t depth = 0;
  int64_t width = 0;
  Reading reading = Reading::automatic;
  bool banded = false;
  double exact = 0.0;
  bool bf16 = false;
};

// Multiply the whole sketch by alpha every `every` steps (0: never); section 4 of the paper. What
// the reading keeps with rows is part of it: every estimate is multiplied.
struct Cleaning {
  float alpha = 1.0f;
  int64_t every = 0;
};

// Count-min sketch for second moments (non-negative values). Automatic is row_scaled, or mean_delta
// for narrow tables without exact rows.
struct CountMin {
  double ratio = 0.2;
  int32_t depth = 0;
  int64_t width = 0;
  Reading reading = Reading::automatic;
  Cleaning cleaning = {};
  bool banded = false;
  double exact = 0.0;
  bool bf16 = false;
};

// One float a row, for second moments (row_wise_memory.h).
struct RowWise {};

// A factor a row and one a column (rank_one_memory.h).
struct RankOne {};

// The rank-one matrix nearest to the moment, as one power iteration a step finds it
// (rank_one_l2_memory.h). For study.
struct RankOneL2 {};

// A bound a row and one a column, for second moments: SM3-I or SM3-II (sm3_memory.h).
struct Sm3Covers {
  int variant = 2;
};

// Two bytes an element, or one and a scale for each piece of a row (bf16_memory.h, int8_memory.h).
struct Bf16 {};
struct Int8 {};

using MemorySpec = std::variant<Dense, None, CountSketch, CountMin, RowWise, RankOne, RankOneL2,
                                Sm3Covers, Bf16, Int8>;

enum class MomentRole : uint8_t { first, second };
std::string to_string(MomentRole);  // "first", "second"

// "dense", "none", "rowwise", "rank1", "rank1:l2", "sm3", "sm3:1", "bf16", "int8", or
// "sketch:RATIO[,depth=N][,width=N][,reading=NAME][,clean=ALPHA/STEPS][,exact=SHARE][,cells=bf16]",
// the same with "banded:", or with "hybrid:", which begins with exact=0.5. A sketch is a
// CountSketch for a first moment, a CountMin for a second. Throws InvalidArgument naming the part
// that cannot be read and what could stand there.
MemorySpec parse_memory(const std::string& text, MomentRole role);
// The shortest text that parse_memory turns into the same.
std::string to_string(const MemorySpec&);

}  // namespace sketchgrad
