#include "sketchgrad/layers/mach.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "sketchgrad/framework/grad_check.h"
#include "sketchgrad/tests/kernels/arrays.h"
#include "sketchgrad/tests/layers/layer_testing.h"

namespace sketchgrad::test {
namespace {

constexpr MultiLabelLoss kLosses[] = {MultiLabelLoss::softmax, MultiLabelLoss::sigmoid};
constexpr int64_t kInput = 3, kClasses = 40, kBuckets = 7;

SparseRows label_rows(const std::vector<std::vector<int32_t>>& rows) {
  std::vector<int32_t> begin{0}, ids;
  for (const std::vector<int32_t>& row : rows) {
    ids.insert(ids.end(), row.begin(), row.end());
    begin.push_back(static_cast<int32_t>(ids.size()));
  }
  const auto numbers = [](const std::vector<int32_t>& values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())}, kTestData);
  };
  return {numbers(begin), numbers(ids), {}};
}

// Classes that share a bucket in this place, first of all.
std::vector<int32_t> sharing_classes(const MachMap& map, int64_t place) {
  std::map<int32_t, std::vector<int32_t>> members;
  for (int32_t c = 0; c < map.classes(); ++c) {
    std::vector<int32_t>& bucket = members[map.bucket(place, c)];
    bucket.push_back(c);
    if (bucket.size() == 3) return bucket;
  }
  throw Error("no three classes in a bucket");
}

// None, one, several, and several of one bucket in the first repetition beside another.
SparseRows labels_for(const MachMap& map) {
  std::vector<int32_t> sharing = sharing_classes(map, 0);
  for (int32_t c = 0;; ++c) {
    if (map.bucket(0, c) == map.bucket(0, sharing[0])) continue;
    sharing.insert(sharing.begin() + 1, c);
    break;
  }
  return label_rows({{}, {5}, {1, 38, 17}, sharing});
}

MachOptions options_of(std::vector<int32_t> repetitions, MultiLabelLoss loss) {
  return {.input = kInput,
          .classes = kClasses,
          .buckets = kBuckets,
          .repetitions = std::move(repetitions),
          .seed = 11,
          .loss = loss,
          .init_range = 0.5f};
}

// One x for all repetitions, or one for each.
std::vector<Tensor> inputs_for(int64_t count, int64_t tokens, int64_t input = kInput) {
  std::vector<Tensor> result;
  for (int64_t i = 0; i < count; ++i) {
    result.push_back(random_normal({tokens, input}, 4 + static_cast<uint64_t>(i)));
  }
  return result;
}

std::vector<Variable> constants(const std::vector<Tensor>& x) {
  std::vector<Variable> result;
  for (const Tensor& one : x) result.push_back(Tape::constant(one));
  return result;
}

TEST_CASE("mach: gradients") {
  for (const MultiLabelLoss loss : kLosses) {
    for (const size_t inputs : {size_t{1}, size_t{3}}) {
      CAPTURE(static_cast<int>(loss));
      CAPTURE(inputs);
      MachOptions options = options_of({0, 1, 6}, loss);
      options.stored_map = inputs == 1;
      // All rows in a chunk, and one.
      options.chunk_bytes = inputs == 1 ? int64_t{1} << 20 : int64_t{4};
      Mach mach("mach", options, kTestDevice);
      const SparseRows labels = labels_for(mach.map());
      std::deque<Parameter> x;
      std::vector<Parameter*> parameters = mach.parameters();
      for (size_t i = 0; i < inputs; ++i) {
        x.emplace_back("x" + std::to_string(i), Shape{labels.rows(), kInput}, kTestDevice);
        fill_normal(x.back().value, 4 + i);
        parameters.push_back(&x.back());
      }
      const GradCheckResult result = grad_check(
          [&](Tape& tape) {
            std::vector<Variable> features;
            for (Parameter& one : x) features.push_back(tape.leaf(one));
            return scale(tape, mach.loss(tape, features, labels), 1.5f);
          },
          parameters, {.max_elements = 12});
      CHECK_MESSAGE(result.passed, result.where);
    }
  }
}

TEST_CASE("mach: its loss is that of an output layer over buckets for each repetition") {
  for (const MultiLabelLoss loss : kLosses) {
    CAPTURE(static_cast<int>(loss));
    Mach mach("mach", options_of({2, 0}, loss), kTestDevice);
    const SparseRows labels = labels_for(mach.map());
    const std::vector<int32_t> begin = labels.begin.to_vector<int32_t>();
    const std::vector<int32_t> ids = labels.columns.to_vector<int32_t>();
    const std::vector<Tensor> x = inputs_for(2, labels.rows());
    double expected = 0;
    for (int64_t place = 0; place < 2; ++place) {
      std::vector<std::vector<int32_t>> rows;
      for (size_t t = 0; t + 1 < begin.size(); ++t) {
        std::vector<int32_t>& row = rows.emplace_back();
        for (int32_t i = begin[t]; i < begin[t + 1]; ++i) {
          const int32_t bucket = mach.map().bucket(place, ids[static_cast<size_t>(i)]);
          const bool seen = std::find(row.begin(), row.end(), bucket) != row.end();
          // The shares of a softmax add up, a sigmoid has a bucket or not.
          if (loss == MultiLabelLoss::softmax || !seen) row.push_back(bucket);
        }
      }
      Rng rng(1);
      MultiLabelOutput head("head", {.input = kInput, .classes = kBuckets, .loss = loss}, rng,
                            kTestDevice);
      head.weight().value.copy_from(mach.weight(place).value);
      Tape tape;
      expected += head.loss(tape, Tape::constant(x[static_cast<size_t>(place)]), label_rows(rows))
                      .value.item();
    }
    for (const bool recording : {true, false}) {
      Tape tape(recording);
      CHECK(mach.loss(tape, constants(x), labels).value.item() ==
            doctest::Approx(expected).epsilon(tolerance(1e-6)));
    }
  }
}

// All that a repetition is and gives.
struct Repetition {
  std::vector<float> parameters;
  std::vector<int32_t> map;
  std::vector<float> gradients;
  std::vector<float> probabilities;
  bool operator==(const Repetition& other) const {
    return map == other.map && same_bits(parameters, other.parameters) &&
           same_bits(gradients, other.gradients) && same_bits(probabilities, other.probabilities);
  }
};

Repetition repetition_of(Mach& mach, int64_t place, int32_t number, const Tensor& probabilities) {
  Repetition result;
  for (const char* part : {".weight", ".bias"}) {
    Parameter& parameter = find_parameter(mach, "mach.r" + std::to_string(number) + part);
    const std::vector<float> values = parameter.value.to_vector<float>();
    const std::vector<float> gradient = full_gradient(parameter);
    result.parameters.insert(result.parameters.end(), values.begin(), values.end());
    result.gradients.insert(result.gradients.end(), gradient.begin(), gradient.end());
  }
  for (int32_t c = 0; c < kClasses; ++c) result.map.push_back(mach.map().bucket(place, c));
  result.probabilities = probabilities.to_vector<float>();
  return result;
}

TEST_CASE("mach: a repetition is the same alone and beside others, bit for bit") {
  for (const MultiLabelLoss loss : kLosses) {
    CAPTURE(static_cast<int>(loss));
    const std::vector<int32_t> numbers = {5, 0, 3};
    Mach together("mach", options_of(numbers, loss), kTestDevice);
    const SparseRows labels = labels_for(together.map());
    const std::vector<Tensor> x = inputs_for(3, labels.rows());
    const auto run = [&](Mach& mach, const std::vector<Tensor>& features) {
      Tape tape;
      const Variable total = mach.loss(tape, constants(features), labels);
      tape.backward(total);
      return total.value.item();
    };
    const float total = run(together, x);
    const std::vector<Tensor> all = together.probabilities(x);
    float sum = 0;
    std::vector<Repetition> seen;
    for (size_t place = 0; place < numbers.size(); ++place) {
      Mach alone("mach", options_of({numbers[place]}, loss), kTestDevice);
      sum += run(alone, {x[place]});
      const Repetition one =
          repetition_of(alone, 0, numbers[place], alone.probabilities(std::vector{x[place]})[0]);
      CHECK(one ==
            repetition_of(together, static_cast<int64_t>(place), numbers[place], all[place]));
      for (const Repetition& other : seen) {
        CHECK(one.map != other.map);
        CHECK_FALSE(same_bits(one.parameters, other.parameters));
      }
      seen.push_back(one);
    }
    CHECK(sum == total);
  }
}

TEST_CASE("mach: probabilities are of buckets, on the CPU") {
  for (const MultiLabelLoss loss : kLosses) {
    for (const int64_t tokens : {0, 1, 5}) {
      for (const int64_t inputs : {1, 2}) {
        Mach mach("mach", options_of({0, 1}, loss), kTestDevice);
        const std::vector<Tensor> meta = mach.probabilities(inputs_for(inputs, tokens));
        REQUIRE(meta.size() == 2);
        for (const Tensor& one : meta) {
          CHECK(one.shape() == Shape{tokens, kBuckets});
          CHECK(one.device() == kCpu);
          const std::vector<float> values = one.to_vector<float>();
          CHECK(std::all_of(values.begin(), values.end(), [](float p) { return p > 0 && p < 1; }));
          if (loss == MultiLabelLoss::sigmoid) continue;
          for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
            const auto row = values.begin() + static_cast<std::ptrdiff_t>(t * kBuckets);
            CHECK(std::accumulate(row, row + kBuckets, 0.0) ==
                  doctest::Approx(1).epsilon(tolerance(1e-6)));
          }
        }
      }
    }
  }
}

TEST_CASE("mach: names of parameters tell the repetition") {
  Mach mach("mach", options_of({7, 2}, MultiLabelLoss::softmax), kTestDevice);
  std::vector<std::string> names;
  for (const Parameter* parameter : mach.parameters()) names.push_back(parameter->name);
  CHECK(names == std::vector<std::string>{"mach.r7.weight", "mach.r7.bias", "mach.r2.weight",
                                          "mach.r2.bias"});
  CHECK(mach.repetitions() == 2);
  CHECK(mach.weight(1).value.shape() == Shape{kBuckets, kInput});
}

TEST_CASE("mach: rows without any label cost nothing") {
  Mach mach("mach", options_of({0, 1}, MultiLabelLoss::softmax), kTestDevice);
  Tape tape;
  const Variable loss = mach.loss(tape, constants(inputs_for(1, 2)), label_rows({{}, {}}));
  CHECK(loss.value.item() == 0.0f);
  tape.backward(loss);
  for (const float g : full_gradient(mach.weight(0))) CHECK(g == 0.0f);
}

TEST_CASE("mach: same bits for any number of threads") {
  constexpr int64_t kTokens = 300;
  const auto run = [&] {
    MachOptions options = options_of({0, 1}, MultiLabelLoss::softmax);
    options.input = 70;
    options.classes = 3000;
    options.buckets = 500;
    options.chunk_bytes = 100 * 500 * 4;
    Mach mach("mach", options, kTestDevice);
    std::vector<std::vector<int32_t>> rows;
    for (int32_t t = 0; t < kTokens; ++t) {
      rows.emplace_back();
      for (int32_t i = 0; i < t % 4; ++i) rows.back().push_back((31 * t + 7 * i) % 3000);
    }
    const std::vector<Tensor> x = inputs_for(2, kTokens, 70);
    Tape tape;
    const Variable loss = mach.loss(tape, constants(x), label_rows(rows));
    tape.backward(loss);
    std::vector<float> all{loss.value.item()};
    const auto append = [&](const std::vector<float>& values) {
      all.insert(all.end(), values.begin(), values.end());
    };
    for (Parameter* parameter : mach.parameters()) append(full_gradient(*parameter));
    for (const Tensor& meta : mach.probabilities(x)) append(meta.to_vector<float>());
    return all;
  };
  CHECK(same_bits(with_threads(1, run), with_threads(3, run)));
}

TEST_CASE("mach: what does not fit is named") {
  Mach mach("mach", options_of({0, 1, 2}, MultiLabelLoss::softmax), kTestDevice);
  const auto refused = [&](int64_t inputs, const SparseRows& labels) {
    Tape tape;
    return refusal([&] { mach.loss(tape, constants(inputs_for(inputs, 2)), labels); });
  };
  const SparseRows labels = label_rows({{1}, {2, 3}});
  CHECK(refused(1, labels).empty());
  CHECK(refused(2, labels) == "[mach] features for 2 repetitions, there must be one tensor or 3");
  CHECK(contains(refusal([&] { mach.probabilities(inputs_for(4, 2)); }), "features for 4"));
  CHECK(refused(1, label_rows({{1}, {40}})) ==
        "[mach] column 40 at entry 1 is outside the 40 of a sparse matrix");
  CHECK(refused(1, label_rows({{-1}, {}})) ==
        "[mach] column -1 at entry 0 is outside the 40 of a sparse matrix");
  CHECK(refused(1, label_rows({{1}})) == "[mach.r0] labels of 1 tokens for 2");
  MachOptions options = options_of({0, 0}, MultiLabelLoss::softmax);
  CHECK(contains(refusal([&] { Mach("mach", options, kTestDevice); }), "repetition"));
  options.repetitions = {0};
  options.buckets = 0;
  CHECK(contains(refusal([&] { Mach("mach", options, kTestDevice); }), "0 buckets"));
}

}  // namespace
}  // namespace sketchgrad::test
