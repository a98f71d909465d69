#include <doctest/doctest.h>

#include "sketchgrad/tests/support/kernel_comparisons.h"

// The GPU against the CPU, and against itself: the same bits twice.
namespace sketchgrad::test {
namespace {

TEST_CASE("elementwise") { compare_elementwise(kCuda); }
TEST_CASE("gemm") { compare_gemm(kCuda); }
TEST_CASE("gemm of rounded factors") { compare_rounded_gemm(kCuda); }
TEST_CASE("gather and scatter") { compare_row_access(kCuda); }
TEST_CASE("finding, counting and copying ids") { compare_id_searches(kCuda); }
TEST_CASE("groups and their sums") { compare_groups(kCuda); }
TEST_CASE("reductions") { compare_reductions(kCuda); }
TEST_CASE("factors") { compare_factors(kCuda); }
TEST_CASE("random arrays") { compare_random(kCuda); }
TEST_CASE("lstm cells") { compare_lstm(kCuda); }
TEST_CASE("lstm layers") { compare_lstm_layer(kCuda); }
TEST_CASE("softmax") { compare_softmax(kCuda); }
TEST_CASE("softmax over candidates") { compare_candidate_softmax(kCuda); }
TEST_CASE("sparse matrices times tables") { compare_csr(kCuda); }
TEST_CASE("several labels a token") { compare_multi_label(kCuda); }
TEST_CASE("locality-sensitive hashes") { compare_hashes(kCuda); }
TEST_CASE("plans of sketches") { compare_sketch_plans(kCuda); }

}  // namespace
}  // namespace sketchgrad::test
