#include "sketchgrad/optim/memory_study.h"

#include <doctest/doctest.h>

#include <cmath>

#include "sketchgrad/optim/sgd.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

const Case kTable{60, 70, 0, 0};

std::vector<MemorySpec> specs(const std::vector<std::string>& texts, MomentRole role) {
  std::vector<MemorySpec> result;
  for (const std::string& text : texts) result.push_back(parse_memory(text, role));
  return result;
}

const std::vector<std::string> kSeconds{"dense",
                                        "rowwise",
                                        "rank1",
                                        "rank1:l2",
                                        "sm3",
                                        "sm3:1",
                                        "bf16",
                                        "int8",
                                        "sketch:0.3",
                                        "banded:0.3",
                                        "sketch:0.3,reading=requery",
                                        "sketch:0.3,reading=own_delta",
                                        "sketch:0.3,reading=mean_delta",
                                        "sketch:0.3,reading=bucket_local",
                                        "sketch:0.3,reading=linear",
                                        "sketch:0.3,clean=0.5/2",
                                        "sketch:0.3,cells=bf16",
                                        "hybrid:0.6"};
const std::vector<std::string> kFirsts{"dense",
                                       "rank1",
                                       "rank1:l2",
                                       "bf16",
                                       "int8",
                                       "sketch:0.3",
                                       "sketch:0.3,reading=trusted",
                                       "banded:0.3",
                                       "sketch:0.3,reading=linear",
                                       "sketch:0.3,cells=bf16",
                                       "hybrid:0.6"};

// Trains with a study beside; its errors are asked for after each step, or after the last.
struct Studied {
  Studied(MomentRole role, bool each_step, const std::vector<std::string>& memories)
      : parameter("table", {kTable.rows, kTable.dim}) {
    Optimizer optimizer(Adam{.learning_rate = 0.01f}, 1);
    optimizer.add(parameter);
    MemoryStudy study(optimizer, parameter, role, specs(memories, role), 10);
    for (const Step& step : random_steps(kTable, 8)) {
      give_gradient(parameter, step, kTable);
      study.step();
      optimizer.step();
      optimizer.clear_gradients();
      if (each_step) study.errors();
    }
    errors = study.errors();
  }
  Parameter parameter;
  std::vector<MemoryErrors> errors;
};

TEST_CASE("study: exact state has no error, others have, and parts make the whole") {
  for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
    const auto& memories = role == MomentRole::first ? kFirsts : kSeconds;
    const Studied studied(role, false, memories);
    for (size_t i = 0; i < memories.size(); ++i) {
      CAPTURE(memories[i]);
      const MemoryErrors& errors = studied.errors[i];
      CHECK((errors.all.absolute == 0.0) == (memories[i] == "dense"));
      CHECK(std::hypot(errors.heavy.absolute, errors.rare.absolute) ==
            doctest::Approx(errors.all.absolute));
      // Ratios are those of sketches.
      CHECK(errors.mean_load.has_value() == (memories[i].find(":0.") != std::string::npos));
      if (errors.mean_load) CHECK(*errors.mean_load >= 1.0);
    }
  }
}

TEST_CASE("study: asking for errors changes no memory, and no memory the training") {
  for (const MomentRole role : {MomentRole::first, MomentRole::second}) {
    const auto& memories = role == MomentRole::first ? kFirsts : kSeconds;
    const Studied asked(role, true, memories);
    const Studied quiet(role, false, memories);
    const Studied alone(role, false, {});
    for (size_t i = 0; i < memories.size(); ++i) {
      CAPTURE(memories[i]);
      CHECK(asked.errors[i].all.absolute == quiet.errors[i].all.absolute);
    }
    CHECK(quiet.parameter.value.to_vector<float>() == alone.parameter.value.to_vector<float>());
  }
}

TEST_CASE("study: errors by hand") {
  Parameter parameter("table", {2, 2});
  Optimizer optimizer(Adagrad{}, 1);
  optimizer.add(parameter);
  MemoryStudy study(optimizer, parameter, MomentRole::second, {RowWise{}}, 1);
  parameter.gradient.add(
      Tensor::from(std::vector<float>{1, 3, 2, 2}, {2, 2}, {Category::gradient, "gradient"}));
  study.step();
  optimizer.step();
  // v = 1 9 / 4 4, the rows' means are 5 and 4.
  const MemoryErrors errors = study.errors()[0];
  CHECK(errors.heavy.absolute == doctest::Approx(std::sqrt(32.0)));
  CHECK(errors.heavy.relative == doctest::Approx(std::sqrt(32.0 / 82.0)));
  CHECK(errors.rare.absolute == 0.0);
  CHECK(errors.all.relative == doctest::Approx(std::sqrt(32.0 / 114.0)));
  CHECK(study.bytes(0) == 8);
}

TEST_CASE("study: a memory that holds NaN is not without error") {
  Parameter parameter("table", {2, 2});
  Optimizer optimizer(Adagrad{}, 1);
  optimizer.add(parameter);
  MemoryStudy study(optimizer, parameter, MomentRole::second, {RowWise{}}, 1);
  parameter.gradient.add(
      Tensor::from(std::vector<float>{NAN, 3, 2, 2}, {2, 2}, {Category::gradient, "gradient"}));
  study.step();
  optimizer.step();
  CHECK(std::isnan(study.errors()[0].all.relative));
}

TEST_CASE("study: a sketch with a bucket for each row has no error") {
  Parameter parameter("table", {kTable.rows, kTable.dim});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter);
  MemoryStudy study(
      optimizer, parameter, MomentRole::first,
      {CountSketch{.width = kTable.rows, .reading = Reading::own_delta, .banded = true}}, 0);
  for (const Step& step : random_steps(kTable, 8)) {
    give_gradient(parameter, step, kTable);
    study.step();
    optimizer.step();
    optimizer.clear_gradients();
  }
  const MemoryErrors errors = study.errors()[0];
  CHECK(errors.all.relative < 1e-6);
  CHECK(*errors.mean_load == 1.0);
  CHECK(*errors.largest_load == 1);
}

TEST_CASE("study: a moment that the rule lacks is refused") {
  Parameter parameter("table", {2, 2});
  Optimizer sgd(Sgd{}), adagrad(Adagrad{});
  CHECK_THROWS_WITH_AS(MemoryStudy(sgd, parameter, MomentRole::second, {}, 0),
                       doctest::Contains("no second moment of table"), InvalidArgument);
  CHECK_THROWS_AS(MemoryStudy(adagrad, parameter, MomentRole::first, {}, 0), InvalidArgument);
  CHECK_THROWS_AS(MemoryStudy(adagrad, parameter, MomentRole::second, {CountSketch{}}, 0),
                  InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
