#pragma once

#include "sketchgrad/kernels/philox.h"
#include "sketchgrad/layers/sparse_rows.h"

namespace sketchgrad::apps::xc {

// Leaves each entry out with this probability, and scales what is left of a row to the length
// (Euclidean norm) that the row had: what a query that shares only some of the features looks like.
// A row that would lose all of them keeps them all. In place: the matrix, on the CPU and with
// values, must be nobody else's. Entry e goes by word e of `key`'s draw.
void drop_features(SparseRows& rows, double probability, kernels::PhiloxKey key);

}  // namespace sketchgrad::apps::xc
