#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/optim/optimizer.h"

// Which memories the state of a model gets out of a budget of bytes, from how often rows are used.
namespace sketchgrad {

// A parameter, as a table, and its use in training.
struct TableUse {
  std::string name;
  int64_t rows = 0;
  int64_t dim = 0;
  Shape columns_shape = {};  // as in StateMemoryContext
  // How often each row occurs in the corpus; empty: all alike.
  std::vector<int64_t> counts = {};
  // Occurrences of rows in one step, over all rows; a row that occurs has a gradient. 0: as many as
  // there are rows.
  double occurrences = 0.0;
  // Every row has a gradient in every step, whatever occurs.
  bool all_rows = true;
};
TableUse table_use(const Parameter& parameter);  // by the shape; all rows alike, in every step

// Relative l2 errors that a memory is expected to have: of the state, and of what active rows read
// of it in a step.
struct ExpectedError {
  double state = 0.0;
  double step = 0.0;
};

// The model behind it, with lambda_i = occurrences of row i in a step and a_i = 1 - exp(-lambda_i)
// the probability that there is any (1 where all rows are active):
// - A gradient of row i has energy e_i = lambda_i / a_i, inputs of a row are independent, and n_i
//   of them were seen: a moment of decay b has energy e_i (1 - b^(2 n_i)) / (1 - b^2).
// - Of a bucket's visits the share q_i = a_i / (a_i + sum of the others' a_j / width) is row i's.
//   Between two of its own visits its part in the bucket decays with the others', by r(b) = q / (1
//   - (1 - q) b) in the mean, and the others leave noise of the energy (1 - q) e / (1 - b^2). The
//   row reads trust * bucket, trust = min(1, own energy / reading's) as wiener does.
// - Where all rows are active in every step, what a row holds is young or has decayed: a row is
//   alive for the share 1 - exp(-lambda_i / (1 - b^2)) of the time, a bucket has another alive row
//   with probability P = 1 - exp(-alive rows / width), and then the error is N / (p_i + N), N the
//   others' state / (width P).
// - Second moments of row_scaled sketches are wrong in their shape alone, by the share 1 - q_i that
//   others have in the bucket times an error measured on language models, as those of rank-one and
//   row-wise memories are (docs/results/memories.md): 0.29, 0.22 and 0.28 where steps are
//   row-sparse, 0.66, 0.45 and 0.72 where all rows are active.
// - Stochastic rounding to steps of a relative size s leaves s / (1 + b) or s^2 / 6 / (1 - b^2),
//   whichever is less, of the energy.
// Sketches are taken for those of the readings wiener and row_scaled with float cells and hashed
// rows, without cleaning; of more than one depth they count as wrong by as much as there is.
ExpectedError expected_error(const MemorySpec& spec, const StateMemoryContext& context,
                             const TableUse& use);

struct PlannedTable {
  Moments moments;
  int64_t first_bytes = 0;  // 0 where the rule has no such moment, or nothing is kept
  int64_t second_bytes = 0;
  ExpectedError first_error;
  ExpectedError second_error;
};

struct MemoryPlan {
  std::vector<PlannedTable> tables;  // one for each use
  int64_t bytes = 0;                 // of all state; at most the budget
  int64_t dense_bytes = 0;           // what dense state would take
};

// Chooses memories that keep all state within `budget` bytes: of those of a table (dense, bf16,
// int8, rank-one, row-wise, sketches and hybrid sketches of many ratios) the ones by which the sum
// over all tables of active elements a step * (first error^2 + second error^2 / 4) falls the most
// for a byte (greedily along the lower convex hull of each moment's choices; a relative error of v
// moves a step of m / sqrt(v) half as far as one of m). What is left over goes to the sketches. A
// moment that the optimizer's rule keeps otherwise than densely by default stays with that. Throws
// InvalidArgument with the smallest budget that works where this one does not.
MemoryPlan plan_memories(const Optimizer& optimizer, const std::vector<TableUse>& tables,
                         int64_t budget);

}  // namespace sketchgrad
