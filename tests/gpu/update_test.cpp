#include <doctest/doctest.h>

#include "sketchgrad/tests/support/update_comparisons.h"

// The GPU against the CPU, and against itself: the same bits twice.
namespace sketchgrad::test {
namespace {

TEST_CASE("dense steps") { compare_dense_steps(kCuda); }
TEST_CASE("every reading") { compare_readings(kCuda); }
TEST_CASE("both moments in sketches") { compare_sketched_pairs(kCuda); }
TEST_CASE("every depth, and full buckets") { compare_geometries(kCuda); }
TEST_CASE("memories of factors and of few bits") { compare_memories(kCuda); }
TEST_CASE("folded sketches") { compare_folding(kCuda); }
TEST_CASE("entries that are no rows") { compare_padded_steps(kCuda); }

}  // namespace
}  // namespace sketchgrad::test
