#include "sketchgrad/tests/support/kernel_comparisons.h"

#include <doctest/doctest.h>

// The bodies of tests/gpu/kernels_test.cpp, on the CPU alone.
namespace sketchgrad::test {
namespace {

TEST_CASE("comparisons: elementwise") { compare_elementwise(kCpu); }
TEST_CASE("comparisons: gemm") { compare_gemm(kCpu); }
TEST_CASE("comparisons: gemm of rounded factors") { compare_rounded_gemm(kCpu); }
TEST_CASE("comparisons: gather and scatter") { compare_row_access(kCpu); }
TEST_CASE("comparisons: finding, counting and copying ids") { compare_id_searches(kCpu); }
TEST_CASE("comparisons: groups and their sums") { compare_groups(kCpu); }
TEST_CASE("comparisons: reductions") { compare_reductions(kCpu); }
TEST_CASE("comparisons: factors") { compare_factors(kCpu); }
TEST_CASE("comparisons: random arrays") { compare_random(kCpu); }
TEST_CASE("comparisons: lstm cells") { compare_lstm(kCpu); }
TEST_CASE("comparisons: lstm layers") { compare_lstm_layer(kCpu); }
TEST_CASE("comparisons: softmax") { compare_softmax(kCpu); }
TEST_CASE("comparisons: softmax over candidates") { compare_candidate_softmax(kCpu); }
TEST_CASE("comparisons: sparse matrices times tables") { compare_csr(kCpu); }
TEST_CASE("comparisons: several labels a token") { compare_multi_label(kCpu); }
TEST_CASE("comparisons: locality-sensitive hashes") { compare_hashes(kCpu); }
TEST_CASE("comparisons: plans of sketches") { compare_sketch_plans(kCpu); }

}  // namespace
}  // namespace sketchgrad::test
