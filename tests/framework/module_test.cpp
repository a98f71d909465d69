#include "sketchgrad/framework/module.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace sketchgrad {
namespace {

class Leaf : public Module {
 public:
  explicit Leaf(const std::string& name) : weight(add_parameter(name + ".weight", {2, 3})) {}
  Parameter& weight;
};

class Tree : public Module {
 public:
  Tree() : own(add_parameter("own", {1})), left("left"), right("right") {
    add_child(left);
    add_child(right);
    add_child(left);
  }
  Parameter& own;
  Leaf left;
  Leaf right;
};

TEST_CASE("own parameters come first, then the children's, each once") {
  const Tree tree;
  std::vector<std::string> names;
  for (const Parameter* parameter : tree.parameters()) names.push_back(parameter->name);
  CHECK(names == std::vector<std::string>{"own", "left.weight", "right.weight"});
}

TEST_CASE("training reaches the children") {
  Tree tree;
  CHECK(tree.right.training());
  tree.set_training(false);
  CHECK_FALSE(tree.training());
  CHECK_FALSE(tree.right.training());
  tree.set_training(true);
  CHECK(tree.left.training());
}

TEST_CASE("a parameter starts as zeros, counted under its name") {
  const Parameter parameter("lstm.weight", {3, 2});
  CHECK(parameter.value.to_vector<float>() == std::vector<float>(6, 0.0f));
  bool found = false;
  for (const LiveBlock& block : allocator().live_blocks()) {
    found |=
        block.name == "lstm.weight" && block.category == Category::parameter && block.bytes == 24;
  }
  CHECK(found);
}

TEST_CASE("initial values are draws of their own and can be repeated") {
  Parameter a("a", {1000}), b("b", {1000}), c("c", {1000});
  Rng rng(7);
  init_uniform(a, rng, -0.1f, 0.1f);
  init_uniform(b, rng, -0.1f, 0.1f);
  CHECK(rng.offset() == 2);
  Rng again(7);
  init_uniform(c, again, -0.1f, 0.1f);
  CHECK(a.value.to_vector<float>() == c.value.to_vector<float>());
  CHECK(a.value.to_vector<float>() != b.value.to_vector<float>());
  for (const float value : a.value.to_vector<float>()) {
    CHECK(value >= -0.1f);
    CHECK(value < 0.1f);
  }
}

}  // namespace
}  // namespace sketchgrad
