#include "sketchgrad/kernels/lsh.h"

#include <algorithm>

#include "sketchgrad/kernels/check.h"
#include "sketchgrad/kernels/dispatch.h"
#include "sketchgrad/kernels/lsh_impl.h"

namespace sketchgrad::kernels {

namespace {

void check_codes(const char* op, int tables, int bits, int64_t rows, const int32_t* codes) {
  if (tables < 1) refuse(op, "{} tables, at least 1 is needed", tables);
  if (bits < 1 || bits > kMaxCodeBits) {
    refuse(op, "codes of {} bits, they have 1 to {}", bits, kMaxCodeBits);
  }
  check_array(op, "codes", codes, rows * tables);
}

// A trace has no numbers to hash, but the codes say where rows go.
void trace_codes(int tables, int64_t rows, int32_t* codes) { std::fill_n(codes, rows * tables, 0); }

}  // namespace

void row_norms(const Exec& exec, ConstMatrix rows, float* out) {
  check_matrix("row_norms", "rows", rows);
  check_array("row_norms", "out", out, rows.rows);
  dispatch(exec, cpu::row_norms, cuda::row_norms, rows, out);
}

void simhash_codes(const Exec& exec, ConstMatrix projections, int tables, int bits,
                   int32_t* codes) {
  const char* op = "simhash_codes";
  check_matrix(op, "projections", projections);
  check_codes(op, tables, bits, projections.rows, codes);
  if (projections.cols != int64_t{tables} * bits) {
    refuse(op, "{} projections for {} tables of {} bits", projections.cols, tables, bits);
  }
  if (exec.trace) return trace_codes(tables, projections.rows, codes);
  dispatch(exec, cpu::simhash_codes, cuda::simhash_codes, projections, tables, bits, codes);
}

void wta_codes(const Exec& exec, ConstMatrix rows, WtaShape shape, const int32_t* columns,
               int32_t* codes) {
  const char* op = "wta_codes";
  check_matrix(op, "rows", rows);
  if (shape.hashes < 1 || shape.bin_bits < 1) {
    refuse(op, "{} hashes of {} bits, both must be at least 1", shape.hashes, shape.bin_bits);
  }
  check_codes(op, shape.tables, shape.hashes * shape.bin_bits, rows.rows, codes);
  check_array(op, "columns", columns, (int64_t{shape.tables} * shape.hashes) << shape.bin_bits);
  if (exec.trace) return trace_codes(shape.tables, rows.rows, codes);
  dispatch(exec, cpu::wta_codes, cuda::wta_codes, rows, shape, columns, codes);
}

void weigh_collisions(const Exec& exec, Matrix logits, const CollisionWeights& weights) {
  const char* op = "weigh_collisions";
  check_matrix(op, "logits", logits);
  if (weights.tables < 1 || weights.bits < 1) {
    refuse(op, "{} tables of {} bits", weights.tables, weights.bits);
  }
  check_array(op, "token_codes", weights.token_codes, logits.rows);
  check_array(op, "token_norms", weights.token_norms, logits.rows);
  check_array(op, "row_codes", weights.row_codes, logits.cols);
  check_array(op, "row_norms", weights.row_norms, logits.cols);
  dispatch(exec, cpu::weigh_collisions, cuda::weigh_collisions, logits, weights);
}

}  // namespace sketchgrad::kernels
