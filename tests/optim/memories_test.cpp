// Every memory but the sketches (sketch_memory_test.cpp) beside every rule.
#include <doctest/doctest.h>
#include <tbb/global_control.h>

#include <cstring>
#include <limits>
#include <memory>

#include "sketchgrad/optim/sm3.h"
#include "sketchgrad/tests/optim/memory_testing.h"

namespace sketchgrad::test {
namespace {

// ---- Transcriptions: x <- decay x + scale u of a whole table in double precision.

struct Reference {
  virtual ~Reference() = default;
  // Values that the rule reads for the items; `all`: a step by a dense gradient.
  virtual Values step(const std::vector<int64_t>& items, const Values& inputs, double decay,
                      double scale, bool all) = 0;
};

using Vector = std::vector<double>;

struct DenseReference final : Reference {
  explicit DenseReference(const Case& size)
      : x(static_cast<size_t>(size.rows), Vector(static_cast<size_t>(size.dim))) {}
  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              bool) override {
    Values result;
    for (size_t e = 0; e < items.size(); ++e) {
      Vector& row = x[static_cast<size_t>(items[e])];
      for (size_t c = 0; c < row.size(); ++c) row[c] = decay * row[c] + scale * inputs[e][c];
      result.push_back(row);
    }
    return result;
  }
  Values x;
};

struct RowWiseReference final : Reference {
  explicit RowWiseReference(const Case& size) : rows(static_cast<size_t>(size.rows)) {}
  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              bool) override {
    Values result = inputs;
    for (size_t e = 0; e < items.size(); ++e) {
      double& row = rows[static_cast<size_t>(items[e])];
      const double mean = std::accumulate(inputs[e].begin(), inputs[e].end(), 0.0) /
                          static_cast<double>(inputs[e].size());
      row = decay * row + scale * mean;
      std::fill(result[e].begin(), result[e].end(), row);
    }
    return result;
  }
  Vector rows;
};

// By the matrix that the factors describe: the active rows of it are advanced, and its sums taken.
struct RankOneReference final : Reference {
  explicit RankOneReference(const Case& size)
      : matrix(static_cast<size_t>(size.rows), Vector(static_cast<size_t>(size.dim))) {}
  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              bool) override {
    for (size_t e = 0; e < items.size(); ++e) {
      Vector& row = matrix[static_cast<size_t>(items[e])];
      for (size_t c = 0; c < row.size(); ++c) row[c] = decay * row[c] + scale * inputs[e][c];
    }
    Vector row_sums, column_sums(matrix[0].size());
    double total = 0.0;
    for (const Vector& row : matrix) {
      row_sums.push_back(std::accumulate(row.begin(), row.end(), 0.0));
      total += row_sums.back();
      for (size_t c = 0; c < row.size(); ++c) column_sums[c] += row[c];
    }
    for (size_t r = 0; r < matrix.size(); ++r) {
      for (size_t c = 0; c < column_sums.size(); ++c) {
        matrix[r][c] = total != 0.0 ? row_sums[r] * column_sums[c] / total : 0.0;
      }
    }
    Values result;
    for (const int64_t item : items) result.push_back(matrix[static_cast<size_t>(item)]);
    return result;
  }
  Values matrix;
};

// By the matrix: its active rows are advanced, and one power iteration makes it rank one.
struct RankOneL2Reference final : Reference {
  RankOneL2Reference(const Case& size, const std::vector<float>& start)
      : matrix(static_cast<size_t>(size.rows), Vector(static_cast<size_t>(size.dim))),
        right(start.begin(), start.end()) {}
  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              bool) override {
    Values result;
    for (size_t e = 0; e < items.size(); ++e) {
      Vector& row = matrix[static_cast<size_t>(items[e])];
      for (size_t c = 0; c < row.size(); ++c) row[c] = decay * row[c] + scale * inputs[e][c];
      result.push_back(row);
    }
    Vector next(right.size());
    for (const Vector& row : matrix) {
      const double projection = std::inner_product(row.begin(), row.end(), right.begin(), 0.0);
      for (size_t c = 0; c < row.size(); ++c) next[c] += projection * row[c];
    }
    const double length =
        std::sqrt(std::inner_product(next.begin(), next.end(), next.begin(), 0.0));
    if (length > 0.0) {
      for (size_t c = 0; c < next.size(); ++c) right[c] = next[c] / length;
    }
    for (Vector& row : matrix) {
      const double left = std::inner_product(row.begin(), row.end(), right.begin(), 0.0);
      for (size_t c = 0; c < row.size(); ++c) row[c] = left * right[c];
    }
    return result;
  }
  Values matrix;
  Vector right;
};

struct Sm3Reference final : Reference {
  Sm3Reference(const Case& size, int of)
      : variant(of), rows(static_cast<size_t>(size.rows)), columns(static_cast<size_t>(size.dim)) {}
  Values step(const std::vector<int64_t>& items, const Values& inputs, double decay, double scale,
              bool all) override {
    Vector new_columns(columns.size());
    Vector new_rows;
    Values result = inputs;
    for (size_t e = 0; e < items.size(); ++e) {
      const double row = rows[static_cast<size_t>(items[e])];
      new_rows.push_back(0.0);
      for (size_t c = 0; c < columns.size(); ++c) {
        double& v = result[e][c];
        v = variant == 2 ? decay * std::min(row, columns[c]) + scale * v : v;
        new_rows[e] = std::max(new_rows[e], v);
        new_columns[c] = std::max(new_columns[c], v);
      }
    }
    for (size_t e = 0; e < items.size(); ++e) {
      double& row = rows[static_cast<size_t>(items[e])];
      row = variant == 2 ? new_rows[e] : decay * row + scale * new_rows[e];
    }
    for (size_t c = 0; c < columns.size(); ++c) {
      const double raised =
          variant == 2 ? new_columns[c] : decay * columns[c] + scale * new_columns[c];
      columns[c] = all ? raised : std::max(columns[c], raised);
    }
    if (variant == 1) {
      for (size_t e = 0; e < items.size(); ++e) {
        for (size_t c = 0; c < columns.size(); ++c) {
          result[e][c] = std::min(rows[static_cast<size_t>(items[e])], columns[c]);
        }
      }
    }
    return result;
  }
  int variant;
  Vector rows;
  Vector columns;
};

// A tensor of the state of a parameter "table".
std::vector<float> state_of(const Optimizer& optimizer, const std::string& name) {
  StateDict state;
  optimizer.save(state);
  return state.tensors.at("optimizer.table." + name).to_vector<float>();
}

// Of a moment, "first" or "second", of an optimizer before its first step.
std::unique_ptr<Reference> reference_of(const std::string& memory, const Case& size,
                                        const Optimizer& optimizer, const std::string& moment) {
  if (memory == "rank1:l2") {
    return std::make_unique<RankOneL2Reference>(size, state_of(optimizer, moment + ".right"));
  }
  if (memory == "rowwise") return std::make_unique<RowWiseReference>(size);
  if (memory == "rank1") return std::make_unique<RankOneReference>(size);
  if (memory == "sm3") return std::make_unique<Sm3Reference>(size, 2);
  if (memory == "sm3:1") return std::make_unique<Sm3Reference>(size, 1);
  return std::make_unique<DenseReference>(size);
}

// ---- Every memory

struct MemoryCase {
  const char* first;
  const char* second;
  double tolerance;  // of a row of the parameter after all steps, against its length
};
// A step of bf16 rounds to 2^-8 of a value, one of int8 to 2^-4.
const std::vector<MemoryCase> kMemories{
    {"dense", "dense", 1e-4},    {"dense", "rowwise", 1e-4},     {"dense", "rank1", 1e-4},
    {"dense", "rank1:l2", 1e-4}, {"rank1:l2", "rank1:l2", 1e-4}, {"rank1:l2", "int8", 0.3},
    {"dense", "sm3", 1e-4},      {"dense", "sm3:1", 1e-4},       {"bf16", "rowwise", 0.06},
    {"dense", "bf16", 0.06},     {"bf16", "bf16", 0.06},         {"int8", "dense", 0.3},
    {"dense", "int8", 0.3},      {"int8", "int8", 0.3},          {"int8", "sm3", 0.3}};

const std::vector<Case> kSizes{{40, 1, 0, 0},  {40, 7, 0, 0},  {40, 33, 0, 0},  {25, 300, 0, 0},
                               {12, 65, 0, 0}, {6, 600, 0, 0}, {4, 2100, 0, 0}, {3, 20000, 0, 0}};

Moments moments_of(const Pair& pair, const MemoryCase& memories) {
  return {pair.scale1 != 0.0 ? parse_memory(memories.first, MomentRole::first) : None{},
          pair.scale2 != 0.0 ? parse_memory(memories.second, MomentRole::second) : None{}};
}

double worst_difference(const Parameter& parameter, const Values& expected) {
  double worst = 0.0;
  const std::vector<float> got = parameter.value.to_vector<float>();
  for (size_t r = 0; r < expected.size(); ++r) {
    double difference = 0.0, length = 0.0;
    for (size_t c = 0; c < expected[r].size(); ++c) {
      const auto value = static_cast<double>(got[r * expected[r].size() + c]);
      difference += std::pow(expected[r][c] - value, 2);
      length += std::pow(expected[r][c], 2);
    }
    if (length > 0.0) worst = std::max(worst, std::sqrt(difference / length));
  }
  return worst;
}

void compare_with_transcription(const Pair& pair, const Case& size, const MemoryCase& memories) {
  CAPTURE(std::string(pair.name));
  CAPTURE(std::string(memories.first));
  CAPTURE(std::string(memories.second));
  CAPTURE(size.rows);
  CAPTURE(size.dim);
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer = pair.optimizer(17);
  optimizer.add(parameter, moments_of(pair, memories));
  const auto first =
      pair.scale1 != 0.0 ? reference_of(memories.first, size, optimizer, "first") : nullptr;
  const auto second =
      pair.scale2 != 0.0 ? reference_of(memories.second, size, optimizer, "second") : nullptr;
  Values expected(static_cast<size_t>(size.rows), Vector(static_cast<size_t>(size.dim)));
  const std::vector<Step> steps = random_steps(size, 5);
  for (int64_t t = 1; t <= kSteps; ++t) {
    const Step& step = steps[static_cast<size_t>(t - 1)];
    give_and_step(optimizer, parameter, step, size);
    if (step.items.empty()) continue;
    Values squares = step.gradient;
    for (auto& row : squares) {
      for (double& g : row) g *= g;
    }
    const Values m = pair.scale1 != 0.0 ? first->step(step.items, step.gradient, pair.decay1,
                                                      pair.scale1, step.dense)
                                        : step.gradient;
    const Values v = pair.scale2 != 0.0
                         ? second->step(step.items, squares, pair.decay2, pair.scale2, step.dense)
                         : squares;
    for (size_t e = 0; e < step.items.size(); ++e) {
      Vector& row = expected[static_cast<size_t>(step.items[e])];
      for (size_t c = 0; c < row.size(); ++c) {
        row[c] = pair.rule(row[c], step.gradient[e][c], m[e][c], v[e][c], t);
      }
    }
  }
  CHECK(worst_difference(parameter, expected) < memories.tolerance);
}

TEST_CASE("every rule and memory against transcriptions") {
  for (const Pair& pair : pairs()) {
    for (const Case& size : kSizes) {
      for (const MemoryCase& memories : kMemories) {
        compare_with_transcription(pair, size, memories);
      }
    }
  }
}

TEST_CASE("a first moment of rank one against its transcription") {
  // Sums that are far from 0: otherwise neither says anything.
  const Case size{30, 33, 0, 0};
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Momentum{.learning_rate = 0.1f}, 1);
  optimizer.add(parameter, {RankOne{}, None{}});
  RankOneReference reference(size);
  Values expected(30, Vector(33));
  for (Step step : random_steps(size, 3)) {
    for (Vector& row : step.gradient) {
      for (double& g : row) g = static_cast<double>(static_cast<float>(std::abs(g) + 0.01));
    }
    give_and_step(optimizer, parameter, step, size);
    if (step.items.empty()) continue;
    const Values m = reference.step(step.items, step.gradient, 0.9, 1.0, step.dense);
    for (size_t e = 0; e < step.items.size(); ++e) {
      for (size_t c = 0; c < 33; ++c)
        expected[static_cast<size_t>(step.items[e])][c] -= 0.1 * m[e][c];
    }
  }
  CHECK(worst_difference(parameter, expected) < 1e-4);
}

TEST_CASE("memories beside sketches: as with dense state in the sketch's place") {
  // Buckets for every row, so that the sketch is dense state.
  const Case size{12, 150, 3, 4096};
  const CountSketch first{.width = size.width, .reading = Reading::own_delta};
  const CountMin second{.width = size.width, .reading = Reading::own_delta};
  const std::vector<std::pair<Moments, Moments>> pairs_of_moments{
      {{first, RowWise{}}, {Dense{}, RowWise{}}},
      {{first, RankOne{}}, {Dense{}, RankOne{}}},
      {{first, RankOneL2{}}, {Dense{}, RankOneL2{}}},
      {{RankOneL2{}, second}, {RankOneL2{}, Dense{}}},
      {{first, Sm3Covers{}}, {Dense{}, Sm3Covers{}}},
      {{first, Bf16{}}, {Dense{}, Bf16{}}},
      {{first, Int8{}}, {Dense{}, Int8{}}},
      {{Bf16{}, second}, {Bf16{}, Dense{}}},
      {{Int8{}, second}, {Int8{}, Dense{}}}};
  for (const auto& [sketched_moments, moments] : pairs_of_moments) {
    CAPTURE(to_string(sketched_moments.first));
    CAPTURE(to_string(sketched_moments.second));
    Parameter sketched("table", {size.rows, size.dim});
    Parameter plain("table", {size.rows, size.dim});
    Optimizer a(Adam{.learning_rate = 0.01f}, 3);
    Optimizer b(Adam{.learning_rate = 0.01f}, 3);
    a.add(sketched, sketched_moments);
    b.add(plain, moments);
    for (const Step& step : random_steps(size, 13)) {
      give_and_step(a, sketched, step, size);
      give_and_step(b, plain, step, size);
    }
    const std::vector<float> x = sketched.value.to_vector<float>();
    const std::vector<float> y = plain.value.to_vector<float>();
    for (size_t k = 0; k < x.size(); ++k) CHECK(x[k] == doctest::Approx(y[k]).epsilon(1e-4));
  }
}

TEST_CASE("bytes of every memory, planned and taken") {
  const auto bytes = [](const char* memory, int64_t rows, int64_t dim) {
    const StateMemoryContext context{
        "table.second", MomentRole::second, {0.9f, 0.1f, true}, rows, dim, 7, kCpu};
    const MemorySpec spec = parse_memory(memory, MomentRole::second);
    const auto made = make_memory(spec, context);
    CHECK(planned_bytes(spec, context) == made->bytes());
    return made->bytes();
  };
  CHECK(bytes("rowwise", 1000, 300) == 4000);
  CHECK(bytes("rank1", 1000, 300) == 5200);
  CHECK(bytes("rank1:l2", 1000, 300) == 5200);
  CHECK(bytes("rank1:l2", 7, 1) == 32);
  CHECK(bytes("sm3", 1000, 300) == 5200);
  CHECK(bytes("bf16", 1000, 300) == 600'000);
  CHECK(bytes("int8", 1000, 300) == 1000 * (300 + 4 * 4));
  CHECK(bytes("int8", 1000, 1) == 5000);
  CHECK(bytes("dense", 1000, 300) == 1'200'000);
}

TEST_CASE("the workspace of a factored step is a few vectors") {
  const Case size{5000, 512, 0, 0};
  for (const char* memory : {"rowwise", "rank1", "rank1:l2", "sm3", "sm3:1"}) {
    CAPTURE(std::string(memory));
    Parameter parameter("table", {size.rows, size.dim});
    Optimizer optimizer(Adagrad{}, 1);
    optimizer.add(parameter, {None{}, parse_memory(memory, MomentRole::second)});
    give_gradient(parameter, random_steps(size, 2).back(), size);
    allocator().reset_peak();
    const MemoryFigures before = allocator().current();
    optimizer.step();
    // Vectors of rows and columns, and partial results: a row of doubles for each 256 rows.
    const int64_t vectors = 2 * (size.rows + 4 * size.dim) * 4;
    const int64_t partial = (size.rows / 256 + 1) * size.dim * 8;
    CHECK(allocator().peak().total - before.total <= vectors + partial);
  }
}

std::vector<float> train(const MemoryCase& memories, int threads) {
  const tbb::global_control control(tbb::global_control::max_allowed_parallelism,
                                    static_cast<size_t>(threads));
  const Case size{3000, 70, 0, 0};
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter, moments_of(pairs().back(), memories));
  for (const Step& step : random_steps(size, 2)) give_and_step(optimizer, parameter, step, size);
  return parameter.value.to_vector<float>();
}

TEST_CASE("every memory: the same bits with one and two threads") {
  for (const MemoryCase& memories : kMemories) CHECK(train(memories, 1) == train(memories, 2));
}

TEST_CASE("every memory: saved and loaded, it goes on bit for bit") {
  const Case size{30, 70, 0, 0};
  const std::vector<Step> steps = random_steps(size, 4);
  for (const MemoryCase& memories : kMemories) {
    CAPTURE(std::string(memories.second));
    const auto make = [&](Parameter& parameter) {
      Optimizer optimizer(Adam{}, 1);
      optimizer.add(parameter, moments_of(pairs().back(), memories));
      return optimizer;
    };
    Parameter whole("table", {size.rows, size.dim}), second("table", {size.rows, size.dim});
    Optimizer through = make(whole);
    give_and_step(through, whole, steps[0], size);
    give_and_step(through, whole, steps[2], size);
    StateDict state;
    through.save(state);
    Optimizer later = make(second);
    later.load(state);
    second.value.copy_from(whole.value);
    // The state dictionary shares storage with the first optimizer: the second goes on alone.
    give_and_step(later, second, steps[4], size);
    Parameter again("table", {size.rows, size.dim});
    Optimizer other = make(again);
    give_and_step(other, again, steps[0], size);
    give_and_step(other, again, steps[2], size);
    give_and_step(other, again, steps[4], size);
    CHECK(second.value.to_vector<float>() == again.value.to_vector<float>());
  }
}

TEST_CASE("every memory: rows that are not active keep parameter and state") {
  const Case size{8, 70, 0, 0};
  const std::vector<Step> steps = random_steps(size, 19);
  for (const MemoryCase& memories : kMemories) {
    CAPTURE(std::string(memories.second));
    Parameter parameter("table", {size.rows, size.dim});
    parameter.value.fill(0.5f);
    Optimizer optimizer(Adam{.learning_rate = 0.01f, .weight_decay = 0.1f}, 1);
    optimizer.add(parameter, moments_of(pairs().back(), memories));
    const auto row_bytes = [&](int64_t row) {
      StateDict state;
      optimizer.save(state);
      std::string bytes;
      const auto add = [&](const Tensor& tensor) {
        const Tensor part = tensor.rows(row, 1);
        bytes.append(static_cast<const char*>(part.raw()), static_cast<size_t>(part.bytes()));
      };
      add(parameter.value);
      for (const auto& [name, tensor] : state.tensors) {
        // A rank-one matrix of least squares turns as a whole.
        if (tensor.size(0) == size.rows && !name.ends_with(".left")) add(tensor);
      }
      return bytes;
    };
    give_and_step(optimizer, parameter, steps[0], size);
    std::vector<std::string> before;
    for (int64_t row = 0; row < size.rows; ++row) before.push_back(row_bytes(row));
    give_and_step(optimizer, parameter, steps[2], size);
    for (int64_t row = 0; row < size.rows; ++row) {
      const auto& items = steps[2].items;
      const bool active = std::count(items.begin(), items.end(), row) > 0;
      CHECK((row_bytes(row) == before[static_cast<size_t>(row)]) == !active);
    }
  }
}

TEST_CASE("rounding keeps what a step adds, however small") {
  // Steps of 1/2000 of the value: nearest rounding would add nothing, in bf16 as in 8 bits.
  constexpr int64_t kElements = 4096;
  for (const char* memory : {"bf16", "int8"}) {
    CAPTURE(std::string(memory));
    Parameter parameter("table", {1, kElements});
    Optimizer optimizer(Adagrad{.learning_rate = 1.0f, .epsilon = 0.0f}, 1);
    optimizer.add(parameter, {None{}, parse_memory(memory, MomentRole::second)});
    const auto step = [&](float g) {
      parameter.gradient.add(Tensor::full({1, kElements}, g, {Category::gradient, "gradient"}));
      optimizer.step();
      optimizer.clear_gradients();
    };
    step(1.0f);
    for (int i = 0; i < 1000; ++i) step(std::sqrt(1.0f / 2000.0f));
    parameter.value.fill(0.0f);
    step(1.0f);  // w = -1 / sqrt(v + 1)
    double mean = 0.0;
    for (const float w : parameter.value.to_vector<float>()) {
      mean += 1.0 / (static_cast<double>(w) * static_cast<double>(w)) / kElements;
    }
    CHECK(mean == doctest::Approx(2.5).epsilon(0.02));
  }
}

// ---- The nearest rank-one matrix

double largest_difference(const Parameter& a, const Parameter& b) {
  const std::vector<float> x = a.value.to_vector<float>(), y = b.value.to_vector<float>();
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(x[i] - y[i])));
  }
  return worst;
}

TEST_CASE("rank1:l2 of moments that are rank one is dense state") {
  for (const int64_t dim : {1, 7, 33}) {
    CAPTURE(dim);
    const Case size{30, dim, 0, 0};
    Parameter factored("table", {size.rows, dim}), dense("table", {size.rows, dim});
    Optimizer a(Adam{.learning_rate = 0.01f}, 1), b(Adam{.learning_rate = 0.01f}, 1);
    a.add(factored, {RankOneL2{}, RankOneL2{}});
    b.add(dense);
    for (Step step : random_steps(size, 4)) {
      // Rows are multiples of one: so are all sums of them, and their squares' too.
      for (size_t e = 0; e < step.gradient.size(); ++e) {
        const double multiple = step.gradient[e][0];
        for (size_t c = 0; c < step.gradient[e].size(); ++c) {
          step.gradient[e][c] = multiple * std::cos(static_cast<double>(3 * c + 1));
        }
      }
      give_and_step(a, factored, step, size);
      give_and_step(b, dense, step, size);
    }
    CHECK(largest_difference(factored, dense) < 1e-5);
  }
}

// |matrix - left right^T| over |matrix|.
double error_of(const Values& matrix, const Vector& left, const Vector& right) {
  double difference = 0.0, whole = 0.0;
  for (size_t r = 0; r < matrix.size(); ++r) {
    for (size_t c = 0; c < right.size(); ++c) {
      difference += std::pow(matrix[r][c] - left[r] * right[c], 2);
      whole += std::pow(matrix[r][c], 2);
    }
  }
  return std::sqrt(difference / whole);
}

double least_error(const Values& matrix) {
  Vector left(matrix.size()), right(matrix[0].size(), 1.0);
  for (int i = 0; i < 1000; ++i) {
    const double length =
        std::sqrt(std::inner_product(right.begin(), right.end(), right.begin(), 0.0));
    for (double& x : right) x /= length;
    for (size_t r = 0; r < matrix.size(); ++r) {
      left[r] = std::inner_product(right.begin(), right.end(), matrix[r].begin(), 0.0);
    }
    if (i == 999) break;
    std::fill(right.begin(), right.end(), 0.0);
    for (size_t r = 0; r < matrix.size(); ++r) {
      for (size_t c = 0; c < right.size(); ++c) right[c] += left[r] * matrix[r][c];
    }
  }
  return error_of(matrix, left, right);
}

TEST_CASE("rank1:l2 of a stationary stream stays near to the best rank-one matrix") {
  // Elements of scale s_i t_c with a part that is not rank one, in all rows and in half of them.
  const Case size{50, 20, 0, 0};
  const std::vector<float> none(static_cast<size_t>(size.rows * size.dim));
  for (const bool first : {false, true}) {
    CAPTURE(first);
    Parameter parameter("table", {size.rows, size.dim});
    Optimizer optimizer(Adam{.beta1 = 0.9f, .beta2 = 0.9f}, 1);
    optimizer.add(parameter, {first ? MemorySpec{RankOneL2{}} : Dense{},
                              first ? MemorySpec{Dense{}} : RankOneL2{}});
    DenseReference exact(size);
    std::mt19937 random(3);
    std::normal_distribution<double> normal;
    for (int t = 0; t < 40; ++t) {
      Step step{false, {}, {}};
      for (int64_t r = 0; r < size.rows; ++r) {
        if (r % 2 != 0 && t % 2 != 0) continue;
        step.items.push_back(r);
        Vector& row = step.gradient.emplace_back();
        for (int64_t c = 0; c < size.dim; ++c) {
          const double scale = (1.0 + r % 7) * (1.0 + c % 3);
          row.push_back(static_cast<float>(first ? scale + 4.0 * normal(random)
                                                 : scale * (1.0 + 0.3 * normal(random))));
        }
      }
      give_and_step(optimizer, parameter, step, size);
      Values inputs = step.gradient;
      for (Vector& row : inputs) {
        for (double& g : row) g = first ? g : g * g;
      }
      exact.step(step.items, inputs, 0.9, 0.1, false);
    }
    const std::string moment = first ? "first" : "second";
    const std::vector<float> left = state_of(optimizer, moment + ".left"),
                             right = state_of(optimizer, moment + ".right");
    const double least = least_error(exact.x);
    const double error =
        error_of(exact.x, {left.begin(), left.end()}, {right.begin(), right.end()});
    CHECK(error >= least * 0.9999);
    CHECK(error <= least * 1.01);
  }
}

TEST_CASE("rank1:l2 keeps second moments and their factors from falling below 0") {
  const Case size{40, 33, 0, 0};
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{}, 1);
  optimizer.add(parameter, {Dense{}, RankOneL2{}});
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    for (const Step& step : random_steps(size, seed)) {
      give_and_step(optimizer, parameter, step, size);
      for (const char* factor : {"second.left", "second.right"}) {
        for (const float x : state_of(optimizer, factor)) REQUIRE(x >= 0.0f);
      }
    }
  }
  for (const float w : parameter.value.to_vector<float>()) CHECK(std::isfinite(w));
}

TEST_CASE("rank1:l2 of nothing, and of numbers whose products vanish") {
  const Case size{3, 7, 0, 0};
  Parameter parameter("table", {size.rows, size.dim});
  Optimizer optimizer(Adam{.learning_rate = 0.01f, .beta2 = 0.9f}, 1);
  optimizer.add(parameter, {RankOneL2{}, RankOneL2{}});
  const auto step = [&](double g) {
    give_and_step(optimizer, parameter, {true, {0, 1, 2}, Values(3, Vector(7, g))}, size);
  };
  const std::vector<float> start = state_of(optimizer, "first.right");
  step(0.0);
  CHECK(state_of(optimizer, "first.left") == std::vector<float>(3));
  CHECK(state_of(optimizer, "second.left") == std::vector<float>(3));
  CHECK(state_of(optimizer, "first.right") == start);
  CHECK(parameter.value.to_vector<float>() == std::vector<float>(21));
  step(1e-15);  // squares of 1e-30
  for (const float left : state_of(optimizer, "second.left")) {
    CHECK(left == doctest::Approx(0.1e-30 * std::sqrt(7.0)).epsilon(1e-4));
  }
  for (const float right : state_of(optimizer, "second.right")) {
    CHECK(right == doctest::Approx(1.0 / std::sqrt(7.0)).epsilon(1e-4));
  }
  // All that there is leaves for another column.
  Parameter other("table", {1, 2});
  Optimizer plain(Momentum{.momentum = 0.0f}, 1);
  plain.add(other, {RankOneL2{}, None{}});
  for (const Vector& g : {Vector{1, 0}, Vector{0, 1}}) {
    give_and_step(plain, other, {true, {0}, {g}}, {1, 2, 0, 0});
    for (const float right : state_of(plain, "first.right")) CHECK(std::isfinite(right));
  }
  CHECK(state_of(plain, "first.left") == std::vector<float>(1));
}

// ---- SM3

TEST_CASE("SM3 by hand, and its bound") {
  // Two steps of a [2, 2] matrix. SM3-II: v = min(row, column) + g^2.
  Parameter parameter("table", {2, 2});
  Optimizer optimizer(Sm3{.learning_rate = 1.0f, .epsilon = 0.0f}, 1);
  optimizer.add(parameter);
  const auto step = [&](std::vector<float> g) {
    const std::vector<float> before = parameter.value.to_vector<float>();
    parameter.gradient.add(Tensor::from(g, {2, 2}, {Category::gradient, "gradient"}));
    optimizer.step();
    optimizer.clear_gradients();
    std::vector<float> v = parameter.value.to_vector<float>();
    for (size_t i = 0; i < 4; ++i) v[i] = std::pow(g[i] / (before[i] - v[i]), 2.0f);
    return v;
  };
  CHECK(step({1, 2, 3, 1})[2] == doctest::Approx(9));
  // Rows: 4 and 9; columns: 9 and 4.
  const std::vector<float> v = step({1, 1, 1, 1});
  CHECK(v[0] == doctest::Approx(4 + 1));
  CHECK(v[1] == doctest::Approx(4 + 1));
  CHECK(v[2] == doctest::Approx(9 + 1));
  CHECK(v[3] == doctest::Approx(4 + 1));
}

TEST_CASE("SM3: an element whose second moment is 0 stays") {
  Parameter parameter("table", {1, 2});
  Optimizer optimizer(Sm3{.learning_rate = 1.0f, .momentum = 0.5f, .second = Dense{}}, 1);
  optimizer.add(parameter);
  for (const float g : {1e-30f, 0.0f}) {  // whose square is 0
    parameter.gradient.add(
        Tensor::from(std::vector<float>{g, 1.0f}, {1, 2}, {Category::gradient, "gradient"}));
    optimizer.step();
    optimizer.clear_gradients();
  }
  CHECK(parameter.value.to_vector<float>()[0] == 0.0f);
  CHECK(parameter.value.to_vector<float>()[1] < -0.5f);
}

TEST_CASE("SM3 of tensors of more axes: the least of a bound for each index of each axis") {
  const Shape shape{3, 4, 2, 5};
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (const int variant : {1, 2}) {
    Parameter parameter("kernel", shape);
    Optimizer optimizer(Sm3{.learning_rate = 0.1f, .second = Sm3Covers{.variant = variant}}, 1);
    optimizer.add(parameter);
    std::vector<Vector> bounds;
    for (const int64_t size : shape) bounds.emplace_back(static_cast<size_t>(size));
    Vector expected(120);
    for (int t = 0; t < 3; ++t) {
      std::vector<float> g(120);
      for (float& x : g) x = normal(random);
      parameter.gradient.add(Tensor::from(g, shape, {Category::gradient, "gradient"}));
      optimizer.step();
      optimizer.clear_gradients();
      const auto index = [&](size_t i, size_t axis) {
        for (size_t a = shape.size() - 1; a > axis; --a) i /= static_cast<size_t>(shape[a]);
        return i % static_cast<size_t>(shape[axis]);
      };
      const auto least = [&](size_t i) {
        double result = std::numeric_limits<double>::infinity();
        for (size_t a = 0; a < 4; ++a) result = std::min(result, bounds[a][index(i, a)]);
        return result;
      };
      std::vector<Vector> next = bounds;
      for (Vector& axis : next) std::fill(axis.begin(), axis.end(), 0.0);
      Vector v(120);
      for (size_t i = 0; i < 120; ++i) {
        v[i] = static_cast<double>(g[i]) * static_cast<double>(g[i]);
        if (variant == 2) v[i] += least(i);
        for (size_t a = 0; a < 4; ++a) next[a][index(i, a)] = std::max(next[a][index(i, a)], v[i]);
      }
      for (size_t a = 0; a < 4; ++a) {
        for (size_t k = 0; k < next[a].size(); ++k) {
          bounds[a][k] = variant == 2 ? next[a][k] : bounds[a][k] + next[a][k];
        }
      }
      for (size_t i = 0; i < 120; ++i) {
        expected[i] -= 0.1 * static_cast<double>(g[i]) / std::sqrt(variant == 2 ? v[i] : least(i));
      }
    }
    const std::vector<float> got = parameter.value.to_vector<float>();
    for (size_t i = 0; i < 120; ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-4));
  }
}

TEST_CASE("SM3-II is between Adagrad's sums and SM3-I") {
  const Case size{12, 9, 0, 0};
  // v of a last step, by the move of a parameter.
  const auto last = [&](const MemorySpec& memory) {
    Parameter parameter("table", {size.rows, size.dim});
    Optimizer optimizer(Adagrad{.learning_rate = 1.0f, .epsilon = 0.0f}, 1);
    optimizer.add(parameter, {None{}, memory});
    std::vector<double> result;
    for (const Step& step : random_steps(size, 6)) {
      const std::vector<float> before = parameter.value.to_vector<float>();
      give_and_step(optimizer, parameter, step, size);
      if (!step.dense) continue;
      const std::vector<float> after = parameter.value.to_vector<float>();
      for (size_t i = 0; i < after.size(); ++i) {
        const double g = step.gradient[i / 9][i % 9];
        result.push_back(std::pow(g / static_cast<double>(before[i] - after[i]), 2));
      }
    }
    return result;
  };
  const Vector sums = last(Dense{}), second = last(Sm3Covers{.variant = 2}),
               first = last(Sm3Covers{.variant = 1});
  for (size_t i = 0; i < sums.size(); ++i) {
    CHECK(second[i] >= sums[i] * 0.999);
    CHECK(first[i] >= second[i] * 0.999);
  }
}

TEST_CASE("memories that cannot be are refused with a reason") {
  const auto make = [](const MemorySpec& spec, MomentRole role) {
    return make_memory(
        spec, {"table.moment", role, {0.9f, 0.1f, role == MomentRole::second}, 100, 4, 7, kCpu});
  };
  CHECK_THROWS_WITH_AS(make(RowWise{}, MomentRole::first), doctest::Contains("[rowwise]"),
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(make(Sm3Covers{}, MomentRole::first), doctest::Contains("[sm3]"),
                       InvalidArgument);
  CHECK_THROWS_WITH_AS(make(Sm3Covers{.variant = 3}, MomentRole::second),
                       doctest::Contains("variant 3"), InvalidArgument);
  Parameter a("table", {10, 4}), b("table", {10, 4});
  Optimizer first(Adagrad{}), second(Adagrad{});
  first.add(a, {None{}, Sm3Covers{.variant = 1}});
  second.add(b, {None{}, Sm3Covers{.variant = 2}});
  StateDict state;
  first.save(state);
  CHECK_THROWS_WITH_AS(second.load(state), doctest::Contains("holds variant 1"), InvalidArgument);
}

}  // namespace
}  // namespace sketchgrad::test
