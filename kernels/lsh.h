#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Locality-sensitive hashing of rows: a code of a few bits for each row and each of some tables.
// Rows that lie close have the same code more often.
namespace sketchgrad::kernels {

inline constexpr int kMaxCodeBits = 24;

// out[r] = |rows(r, :)|.
void row_norms(const Exec&, ConstMatrix rows, float* out);

// SimHash (Charikar 2002): projections [rows, tables * bits] of rows on random directions; bit k of
// codes[r * tables + l] says whether column l * bits + k is above 0. With Gaussian directions, two
// rows at an angle a agree in a bit with probability 1 - a / pi.
void simhash_codes(const Exec&, ConstMatrix projections, int tables, int bits, int32_t* codes);

// Densified winner-take-all hashing (Chen and Shrivastava 2018). A bin is a choice of 2^bin_bits
// columns, columns[bin * 2^bin_bits + i], and its hash the place of the largest of them in the row
// (the first of equals). A bin of zeros takes the hash of another, drawn by its number and the
// number of the attempt, the same for all rows. codes[r * tables + l] strings the hashes of the
// bins l * hashes ... l * hashes + hashes - 1 together.
struct WtaShape {
  int tables = 0;
  int hashes = 0;
  int bin_bits = 0;
};
void wta_codes(const Exec&, ConstMatrix rows, WtaShape, const int32_t* columns, int32_t* codes);

// product[c] *= product over t of the probability that row c of a table and token t, whose inner
// product is dots(t, c), have different SimHash codes in all tables: (1 - p^bits)^tables with p = 1
// - a / pi. Norms: of the tokens [dots.rows] and of the rows [dots.cols].
void multiply_misses(const Exec&, ConstMatrix dots, const float* token_norms,
                     const float* row_norms, int tables, int bits, float* product);

}  // namespace sketchgrad::kernels
