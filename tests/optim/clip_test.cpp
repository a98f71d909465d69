#include "sketchgrad/optim/clip.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <limits>

namespace sketchgrad::test {
namespace {

TEST_CASE("the norm runs over dense and row-sparse gradients together") {
  Parameter dense("dense", {2});
  Parameter sparse("sparse", {5, 2});
  Parameter idle("idle", {3});
  dense.gradient.add(Tensor::from<float>({3, 0}, {2}, {Category::gradient, "gradient"}));
  // Row 1 stands twice: its entries add up before the norm is taken.
  sparse.gradient.add(
      RowSparse{5, Tensor::from<int32_t>({1, 3, 1}, {3}, {Category::gradient, "ids"}),
                Tensor::from<float>({1, 0, 0, 2, 2, 0}, {3, 2}, {Category::gradient, "values"})});
  const double norm = clip_global_norm({&dense, &sparse, &idle}, 1.0);
  CHECK(norm == doctest::Approx(std::sqrt(9.0 + 9.0 + 4.0)));
  CHECK(dense.gradient.dense().to_vector<float>()[0] == doctest::Approx(3.0 / norm));
  CHECK(sparse.gradient.rows().values.to_vector<float>()[3] == doctest::Approx(2.0 / norm));
  CHECK(clip_global_norm({&dense, &sparse, &idle}, 2.0) == doctest::Approx(1.0));
  CHECK(dense.gradient.dense().to_vector<float>()[0] == doctest::Approx(3.0 / norm));
}

TEST_CASE("gradients that share storage are scaled once each") {
  // d (a + b) is one tensor for both; a coalesced part belongs to its maker.
  Parameter a("a", {2});
  Parameter b("b", {2});
  Parameter sparse("sparse", {5, 1});
  const Tensor shared = Tensor::from<float>({2, 0}, {2}, {Category::gradient, "gradient"});
  const Tensor rows = Tensor::from<float>({1}, {1, 1}, {Category::gradient, "values"});
  a.gradient.add(shared);
  b.gradient.add(shared);
  sparse.gradient.add(
      RowSparse{5, Tensor::from<int32_t>({1}, {1}, {Category::gradient, "ids"}), rows, true});
  CHECK(clip_global_norm({&a, &b, &sparse}, 1.0) == doctest::Approx(3.0));
  CHECK(a.gradient.dense().to_vector<float>()[0] == doctest::Approx(2.0 / 3.0));
  CHECK(b.gradient.dense().to_vector<float>()[0] == doctest::Approx(2.0 / 3.0));
  CHECK(sparse.gradient.rows().values.to_vector<float>()[0] == doctest::Approx(1.0 / 3.0));
  CHECK(rows.to_vector<float>()[0] == 1.0f);
}

TEST_CASE("clipping agrees with PyTorch") {
  std::ifstream file(std::string(SKETCHGRAD_SOURCE_DIR) + "/tests/golden/clip.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  for (const auto& entry : golden["cases"]) {
    std::vector<std::unique_ptr<Parameter>> parameters;
    std::vector<Parameter*> pointers;
    for (const auto& array : entry["before"]) {
      const Tensor gradient =
          Tensor::from(array["data"].get<std::vector<float>>(), array["shape"].get<Shape>(),
                       {Category::gradient, "gradient"});
      parameters.push_back(std::make_unique<Parameter>("p", gradient.shape()));
      parameters.back()->gradient.add(gradient);
      pointers.push_back(parameters.back().get());
    }
    const double norm = clip_global_norm(pointers, entry["max_norm"].get<double>());
    CHECK(norm == doctest::Approx(entry["norm"].get<double>()).epsilon(1e-5));
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto expected = entry["after"][i]["data"].get<std::vector<float>>();
      const auto got = parameters[i]->gradient.dense().to_vector<float>();
      for (size_t k = 0; k < got.size(); ++k) {
        CHECK(got[k] == doctest::Approx(expected[k]).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("clipping where the gradients lie gives the same bits") {
  for (const double max_norm : {0.5, 100.0, std::numeric_limits<double>::infinity()}) {
    std::vector<std::vector<float>> results;
    std::vector<double> norms;
    for (const bool on_device : {false, true}) {
      Parameter dense("dense", {3});
      Parameter sparse("sparse", {5, 2});
      Parameter idle("idle", {3});
      dense.gradient.add(
          Tensor::from<float>({0.3f, 1.0f, -2.0f}, {3}, {Category::gradient, "gradient"}));
      sparse.gradient.add(
          RowSparse{5, Tensor::from<int32_t>({1, 3, 1}, {3}, {Category::gradient, "ids"}),
                    Tensor::from<float>({1, 0, 0, 2, 2, 0}, {3, 2}, {Category::gradient, "v"})});
      const std::vector<Parameter*> all{&dense, &sparse, &idle};
      norms.push_back(on_device ? clip_global_norm_on_device(all, max_norm).item()
                                : clip_global_norm(all, max_norm));
      results.push_back(dense.gradient.dense().to_vector<float>());
      results.push_back(sparse.gradient.rows().values.to_vector<float>());
    }
    CHECK(norms[0] == doctest::Approx(norms[1]));
    CHECK(results[0] == results[2]);
    CHECK(results[1] == results[3]);
  }
}

TEST_CASE("clipping where the gradients lie leaves it to the reader to find what is not finite") {
  Parameter parameter("w", {2});
  const float infinity = std::numeric_limits<float>::infinity();
  parameter.gradient.add(
      Tensor::from<float>({1, std::nanf("")}, {2}, {Category::gradient, "gradient"}));
  CHECK(std::isnan(clip_global_norm_on_device({&parameter}, 1.0).item()));
  CHECK(parameter.gradient.dense().to_vector<float>()[0] == 1.0f);
  parameter.gradient.clear();
  parameter.gradient.add(Tensor::from<float>({1, infinity}, {2}, {Category::gradient, "gradient"}));
  CHECK(clip_global_norm_on_device({&parameter}, 1.0).item() == infinity);
  CHECK_THROWS_AS(clip_global_norm_on_device({}, 1.0), InvalidArgument);
}

TEST_CASE("a gradient that is not finite names its parameter") {
  Parameter parameter("lstm.weight_ih_l0", {2});
  parameter.gradient.add(Tensor::from<float>({1, std::numeric_limits<float>::quiet_NaN()}, {2},
                                             {Category::gradient, "gradient"}));
  CHECK_THROWS_WITH_AS(clip_global_norm({&parameter}, 1.0), doctest::Contains("lstm.weight_ih_l0"),
                       NumericError);
  CHECK_THROWS_AS(clip_global_norm({}, 0.0), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
