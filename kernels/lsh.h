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

// What a SimHash says of tokens [T] and rows of a table [C].
struct CollisionWeights {
  int tables = 0;
  int bits = 0;
  const int32_t* token_codes = nullptr;  // [T, tables]
  const int32_t* row_codes = nullptr;    // [tables, C]
  const float* token_norms = nullptr;    // [T]
  const float* row_norms = nullptr;      // [C]
  float log_share = 0;                   // log of the part of the found rows that is used
};
// logits(t, c), the inner products of tokens and rows, less log(P share), with P the probability
// that token and row have the same code in some table: P = 1 - (1 - p^bits)^tables, p = 1 - a / pi.
// -infinity where they have none. So exp of it is exp(logit) on average over the hash functions.
void weigh_collisions(const Exec&, Matrix logits, const CollisionWeights&);

}  // namespace sketchgrad::kernels
