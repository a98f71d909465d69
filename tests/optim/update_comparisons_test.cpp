#include "sketchgrad/tests/support/update_comparisons.h"

#include <doctest/doctest.h>

// The bodies of tests/gpu/update_test.cpp, on the CPU alone.
namespace sketchgrad::test {
namespace {

TEST_CASE("comparisons: dense steps") { compare_dense_steps(kCpu); }
TEST_CASE("comparisons: every reading") { compare_readings(kCpu); }
TEST_CASE("comparisons: both moments in sketches") { compare_sketched_pairs(kCpu); }
TEST_CASE("comparisons: every depth, and full buckets") { compare_geometries(kCpu); }
TEST_CASE("comparisons: memories of factors and of few bits") { compare_memories(kCpu); }
TEST_CASE("comparisons: folded sketches") { compare_folding(kCpu); }
TEST_CASE("comparisons: entries that are no rows") { compare_padded_steps(kCpu); }

}  // namespace
}  // namespace sketchgrad::test
