// Prints the bits of what every function of kernels/*_rules.h returns for fixed inputs, a line a
// value. It is compiled twice, by g++ and, as print_rules_nvcc.cu, by nvcc for the host; the test
// compares what the two programs print.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "sketchgrad/kernels/elementwise_rules.h"
#include "sketchgrad/kernels/factors_rules.h"
#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/low_precision_rules.h"
#include "sketchgrad/kernels/lsh_rules.h"
#include "sketchgrad/kernels/lstm_rules.h"
#include "sketchgrad/kernels/math_rules.h"
#include "sketchgrad/kernels/multi_label_rules.h"
#include "sketchgrad/kernels/random_rules.h"
#include "sketchgrad/kernels/reduce_rules.h"
#include "sketchgrad/kernels/rows_rules.h"
#include "sketchgrad/kernels/sketch_piece_rules.h"
#include "sketchgrad/kernels/sketch_rules.h"
#include "sketchgrad/kernels/softmax_rules.h"
#include "sketchgrad/kernels/update_rules.h"

namespace {

using namespace sketchgrad::kernels;

constexpr SerialPolicy kPolicy;
constexpr int64_t kRows = 5;
constexpr int64_t kCols = 37;
constexpr int64_t kCount = kRows * kCols;

void print(const char* name, uint64_t bits) {
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(bits));
}
void print(const char* name, float value) {
  // Which NaN it is depends on the order of operands, which is the compiler's.
  print(name, uint64_t{std::isnan(value) ? 0x7fc00000u : bits_from_float(value)});
}
void print(const char* name, double value) { print(name, static_cast<uint64_t>(value * 0x1p40)); }
void print(const char* name, const std::vector<float>& values) {
  for (const float value : values) print(name, value);
}

class Inputs {
 public:
  std::vector<float> floats(int64_t count, float range = 3.0f) {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(number(range));
    return values;
  }
  // With what is not an ordinary number among them.
  std::vector<float> odd_floats(int64_t count) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::vector<float> values = {0.0f,       -0.0f,         1.0f,   -1.0f, 1e-42f,
                                 -1e-42f,    87.0f,         -87.4f, 88.8f, kInfinity,
                                 -kInfinity, std::nanf(""), 1e-30f, 3e38f};
    while (static_cast<int64_t>(values.size()) < count) values.push_back(number(20.0f));
    values.resize(static_cast<size_t>(count));
    return values;
  }
  // Not a distribution of the standard library, whose numbers are the library's own choice.
  float number(float range) {
    return range * (static_cast<float>(random_() >> 8) * 0x1p-23f - 1.0f);
  }
  uint32_t word() { return random_(); }

 private:
  std::mt19937 random_{20260101};
};

Matrix matrix_of(std::vector<float>& values, int64_t cols = kCols) {
  return contiguous(values.data(), static_cast<int64_t>(values.size()) / cols, cols);
}

void print_elementwise(Inputs& inputs) {
  const std::vector<float> a = inputs.odd_floats(kCount), b = inputs.floats(kCount);
  const float factor = 1.7f;
  const auto loop = [&](const char* name, const auto& make) {
    std::vector<float> out = b;
    for_each(kPolicy, kCount, make(out.data()));
    print(name, out);
  };
  for (const float x : a) {
    print("fast_exp", fast_exp(x));
    print("fast_sigmoid", fast_sigmoid(x));
    print("fast_tanh", fast_tanh(x));
    print("softplus", softplus_and_sigmoid(x).softplus);
    print("its sigmoid", softplus_and_sigmoid(x).sigmoid);
    print("float_from_bits", float_from_bits(bits_from_float(x)));
  }
  loop("FillElement", [&](float* out) { return FillElement{out, factor}; });
  loop("CopyElement", [&](float* out) { return CopyElement{a.data(), out}; });
  loop("ScaleElement", [&](float* out) { return ScaleElement{a.data(), factor, out}; });
  loop("ScaleByElement", [&](float* out) { return ScaleByElement{a.data(), &factor, out}; });
  loop("AddScaledElement", [&](float* out) { return AddScaledElement{a.data(), factor, out}; });
  loop("Relu", [&](float* out) { return UnaryElement<Relu>{a.data(), out}; });
  loop("Sigmoid", [&](float* out) { return UnaryElement<Sigmoid>{a.data(), out}; });
  loop("Tanh", [&](float* out) { return UnaryElement<Tanh>{a.data(), out}; });
  const auto gradient = [&](const char* name, auto op) {
    loop(name, [&](float* out) {
      return UnaryGradientElement<decltype(op)>{a.data(), b.data(), out};
    });
  };
  gradient("Relu gradient", Relu{});
  gradient("Sigmoid gradient", Sigmoid{});
  gradient("Tanh gradient", Tanh{});
  loop("Add", [&](float* out) { return BinaryElement<Add>{a.data(), b.data(), out}; });
  loop("Subtract", [&](float* out) { return BinaryElement<Subtract>{a.data(), b.data(), out}; });
  loop("Multiply", [&](float* out) { return BinaryElement<Multiply>{a.data(), b.data(), out}; });
  std::vector<float> rows = b;
  for_each_row(kPolicy, kRows, kCols, AddRow{matrix_of(rows), a.data()});
  print("AddRow", rows);
}

void print_random(Inputs& inputs) {
  for (int i = 0; i < 50; ++i) {
    const uint64_t seed = uint64_t{inputs.word()} << 32 | inputs.word();
    const Philox4 words = philox(seed, inputs.word(), inputs.word());
    for (const uint32_t word : words.v) print("philox", uint64_t{word});
    print("philox_bits", uint64_t{philox_bits({seed, 3}, static_cast<uint64_t>(i))});
    print("uniform_from_bits", uniform_from_bits(words.v[0]));
  }
  const std::vector<float> in = inputs.floats(kCount);
  const PhiloxKey key{7, 9};
  const auto draw = [&](const char* name, const auto& rule) {
    using Rule = std::decay_t<decltype(rule)>;
    std::vector<float> out(static_cast<size_t>(kCount));
    for_each(kPolicy, kCount / 4, RandomBlock<Rule>{key, rule, out.data()});
    for_each(kPolicy, kCount % 4, RandomElement<Rule>{key, rule, out.data(), kCount / 4 * 4});
    print(name, out);
  };
  draw("UniformRule", UniformRule{-1.5f, 3.5f, 1.9999999f});
  draw("DropoutRule", DropoutRule{in.data(), 1u << 30, 4.0f / 3.0f});
}

void print_lstm(Inputs& inputs) {
  std::vector<float> gates = inputs.odd_floats(4 * kCount);
  const std::vector<float> bias = inputs.floats(4 * kCols), more = inputs.floats(4 * kCols);
  std::vector<float> c_previous = inputs.floats(kCount), c = c_previous, h = c_previous;
  for_each_row(kPolicy, kRows, kCols,
               LstmForward{matrix_of(gates, 4 * kCols), bias.data(), more.data(),
                           matrix_of(c_previous), matrix_of(c), matrix_of(h)});
  print("LstmForward gates", gates);
  print("LstmForward c", c);
  print("LstmForward h", h);
  std::vector<float> grad_c = inputs.floats(kCount), grad_h = inputs.floats(kCount);
  for_each_row(kPolicy, kRows, kCols,
               LstmBackward{matrix_of(gates, 4 * kCols), matrix_of(c_previous), matrix_of(c),
                            matrix_of(grad_h), matrix_of(grad_c)});
  print("LstmBackward gates", gates);
  print("LstmBackward c", grad_c);
}

void print_reductions(Inputs& inputs) {
  for (const float x : inputs.floats(kCount)) {
    print("Value", Value::of(x));
    print("Square", Square::of(x));
    const double squares = static_cast<double>(x) * 20.0 * static_cast<double>(x);
    float norm = 0.0f, factor = 0.0f;
    ClipFactor{&squares, 2.0, &norm, &factor}(0);
    print("ClipFactor norm", norm);
    print("ClipFactor factor", factor);
  }
}

void print_rows(Inputs& inputs) {
  const std::vector<int32_t> ids = {3, 0, -1, 4, 1};
  std::vector<float> table = inputs.floats(kCount), rows = inputs.floats(kCount);
  for_each_row(kPolicy, kRows, kCols, GatherRow{matrix_of(table), ids.data(), -1, matrix_of(rows)});
  print("GatherRow", rows);
  for_each_row(kPolicy, kRows, kCols,
               ScatterAddRow{matrix_of(rows), ids.data(), -0.3f, matrix_of(table)});
  print("ScatterAddRow", table);
  for (int64_t i = 0; i < kRows; ++i) {
    print("OutOfRange", uint64_t{OutOfRange::of(ids.data(), 4, 0)(i)});
    print("IdIs", uint64_t{IdIs{ids.data(), 4}(i)});
    if (i + 1 < kRows) print("NextNotAbove", uint64_t{NextNotAbove{ids.data()}(i)});
  }
}

template <int kDepth>
void print_pieces(Inputs& inputs) {
  float v[kDepth];
  for (float& reading : v) reading = inputs.number(2.0f);
  print("combine_median", combine_median(v));
  for (const Combine combine : {Combine::median, Combine::minimum, Combine::mean}) {
    print("combine_readings", combine_readings(combine, v));
  }
  for (const RowWeights rows :
       {RowWeights::constant, RowWeights::by_depths, RowWeights::by_power, RowWeights::by_scale}) {
    PieceSums<float> sums;
    for (int c = 0; c < 8; ++c) {
      for (float& reading : v) reading = inputs.number(2.0f);
      const float estimate = combine_readings(Combine::median, v);
      add_column(rows, v, estimate, inputs.number(1.0f), sums);
    }
    SketchStep step;
    step.accumulate = {0.9f, 0.1f, false};
    step.estimate_weight = -0.1f;
    step.input_weight = 0.1f;
    step.previous_mass = 0.5f;
    for (const bool alone : {false, true}) {
      float row_state = 0.7f;
      const PieceWeights weights =
          weigh_piece<kDepth>(rows, step, step.accumulate, sums, 8, alone, row_state);
      print("weigh_piece decay", weights.decay);
      print("weigh_piece scale", weights.scale);
      print("weigh_piece flat", weights.flat);
      print("weigh_piece row", row_state);
      print("piece_value", piece_value(weights, v[0], 0.3f));
      print("piece_change", piece_change(weights, v[0], 0.3f));
    }
  }
}

void print_sketches(Inputs& inputs) {
  for (const int64_t width :
       {int64_t{1}, int64_t{7}, int64_t{1023}, int64_t{1024}, int64_t{100003}, int64_t{1} << 30}) {
    for (int i = 0; i < 50; ++i) {
      const Slot slot = sketch_slot(inputs.word(), i % 4, inputs.word() >> 1, width);
      print("sketch_slot", uint64_t{slot});
      const int32_t folds = i % 3;
      const RowHash folded{inputs.word(), i % 2 == 0 ? 0 : 4096, nullptr, width, folds};
      print("folded slot", uint64_t{folded.slot(i % 4, inputs.word() % 4096, width >> folds)});
      print("slot_bucket", static_cast<uint64_t>(slot_bucket(slot)));
      print("slot_sign", slot_sign(slot));
    }
  }
  const Accumulate rule{0.9f, 0.1f, true};
  for (int i = 0; i < 100; ++i) {
    const float a = std::abs(inputs.number(1.0f)), b = std::abs(inputs.number(1.0f));
    float rho = a;
    print("depth_trust", depth_trust(i == 0 ? 0.0f : a, b));
    print("wiener_trust", wiener_trust(a, b));
    print("wiener_power", wiener_power(a, rule, b, inputs.number(1.0f), b));
    const ShapeWeights shape = shape_weights(rho, rule, b, i == 1 ? 0.0f : a);
    print("shape_weights rho", rho);
    print("shape_weights decay", shape.decay);
    print("shape_weights flat", shape.flat);
    print("shape_weights input", shape.input_weight);
    SketchStep step;
    step.cell_decay = -0.1f;
    step.mean = i % 2 == 0;
    step.clamp_at_zero = i % 3 == 0;
    const BucketStep bucket = BucketStep::of(step, static_cast<float>(1 + i % 5));
    print("BucketStep", bucket(a, inputs.number(3.0f)));
  }
  print_pieces<1>(inputs);
  print_pieces<2>(inputs);
  print_pieces<3>(inputs);
  print_pieces<4>(inputs);
  print_pieces<8>(inputs);
}

void print_hashes(Inputs& inputs) {
  std::vector<float> rows = inputs.floats(kCount), norms(kRows);
  for (int64_t c = 0; c < kCols; ++c) rows[static_cast<size_t>(c)] = 0.0f;
  for_each(kPolicy, kRows, RowNorm{matrix_of(rows), norms.data()});
  print("RowNorm", norms);
  constexpr int kTables = 3;
  std::vector<int32_t> codes(kRows * kTables);
  const auto print_codes = [&](const char* name) {
    for (const int32_t code : codes) print(name, static_cast<uint64_t>(code));
  };
  for_each(kPolicy, kRows * kTables, PackSigns{matrix_of(rows), kTables, 12, codes.data()});
  print_codes("PackSigns");
  std::vector<int32_t> columns;
  for (int i = 0; i < kTables * 2 * 4; ++i) columns.push_back(static_cast<int32_t>(i * 7 % kCols));
  for_each(kPolicy, kRows * kTables,
           WtaCode{matrix_of(rows), {kTables, 2, 2}, columns.data(), codes.data()});
  print_codes("WtaCode");
  for (int i = 0; i < 100; ++i) {
    print("simhash_agreement", simhash_agreement(inputs.number(1.01f)));
    print("simhash_collision", simhash_collision(inputs.number(1.0f), 1.0f, 4, 5));
    print("fast_log", fast_log(std::abs(inputs.number(20.0f))));
    print("BothHappen", combine_events(BothHappen{}, std::abs(inputs.number(1.0f)), i % 20));
    print("EitherHappens", combine_events(EitherHappens{}, std::abs(inputs.number(1.0f)), i % 20));
  }
  std::vector<float> row_norms = inputs.floats(kCols);
  for (float& norm : row_norms) norm = std::abs(norm);
  std::vector<int32_t> token_codes, row_codes;
  for (int64_t i = 0; i < kRows * kTables; ++i) token_codes.push_back(static_cast<int32_t>(i % 4));
  for (int64_t i = 0; i < kCols * kTables; ++i) row_codes.push_back(static_cast<int32_t>(i % 5));
  for_each_row(kPolicy, kRows, kCols,
               WeighCollision{matrix_of(rows),
                              {kTables, 2, token_codes.data(), row_codes.data(), norms.data(),
                               row_norms.data(), -0.5f}});
  print("WeighCollision", rows);
}

void print_softmax(Inputs& inputs) {
  std::vector<float> logits = inputs.odd_floats(kCount);
  const std::vector<float> bias = inputs.floats(kCols);
  const std::vector<int32_t> targets = {0, 36, kIgnoredTarget, 5, 12};
  std::vector<float> max(kRows), sum(kRows), target(kRows), losses(kRows);
  const OnlineSoftmax state{max.data(), sum.data(), target.data()};
  for_each(kPolicy, kRows, BeginSoftmax{state});
  for (int64_t t = 0; t < kRows; ++t) {
    LogSumExp left, right;
    for (int64_t c = 0; c < kCols; ++c) {
      const float logit = logits[static_cast<size_t>(t * kCols + c)];
      (c < 20 ? left : right) = add_logit(c < 20 ? left : right, logit);
    }
    const LogSumExp both = merge(left, right);
    print("merge max", both.max);
    print("merge sum", both.sum);
    max[static_cast<size_t>(t)] = both.max;
    sum[static_cast<size_t>(t)] = both.sum;
    target[static_cast<size_t>(t)] = inputs.number(4.0f);
    print("log_probability", log_probability(inputs.number(4.0f), 3.0f, 0.7f));
  }
  for_each(kPolicy, kRows, SoftmaxLoss{state, targets.data(), losses.data()});
  print("SoftmaxLoss", losses);
  std::vector<float> without = logits;
  for_each_row(
      kPolicy, kRows, kCols,
      SoftmaxProbability<true>{matrix_of(logits), bias.data(), targets.data(), state, 0.1f});
  for_each_row(kPolicy, kRows, kCols,
               SoftmaxProbability<false>{matrix_of(without), nullptr, targets.data(), state, 0.1f});
  for_each(kPolicy, kRows, SoftmaxTargetGradient{matrix_of(logits), 0, targets.data(), 0.1f});
  for_each(kPolicy, kRows,
           TakeTargetLogit{matrix_of(without), bias.data(), targets.data(), target.data(), state});
  for_each(kPolicy, kRows, AddTargetLogit{targets.data(), state});
  for_each(kPolicy, kRows, PutTargetGradient{matrix_of(without), targets.data(), state, 0.1f});
  print("target logits", target);
  print("sums with target", sum);
  print("SoftmaxProbability with bias", logits);
  print("SoftmaxProbability", without);
}

void print_low_precision(Inputs& inputs) {
  for (int64_t i = 0; i < kCount; ++i) {
    const float x = inputs.number(1.0f);
    const auto random = static_cast<uint32_t>(0x9E3779B9u * static_cast<uint64_t>(i + 1));
    print("float_to_bf16", uint64_t{float_to_bf16(x, random)});
    print("bf16_to_float", bf16_to_float<float>(random & 0x7F7Fu));
    print("Float8 with sign", uint64_t{Float8<true>::from_float(x, random)});
    print("Float8", uint64_t{Float8<false>::from_float(std::abs(x), random)});
    print("Float8 with sign back", Float8<true>::to_float<float>(random & 0xFFu));
    print("Float8 back", Float8<false>::to_float<float>(random & 0xFFu));
    print("BlockScale", BlockScale::of(std::abs(x), i % 2 == 0).inverse);
    print("Larger",
          uint64_t{Larger()(magnitude_bits<uint32_t>(0.5f), magnitude_bits<uint32_t>(x))});
    print("RoundingKey", uint64_t{RoundingKey{random}.row(i).bits(random >> 16)});
  }
}

void print_factors(Inputs& inputs) {
  std::vector<float> gradient = inputs.floats(kCount);
  std::vector<float> rows = inputs.floats(kRows), columns = inputs.floats(kCols);
  std::vector<float> x = inputs.floats(kCols), values = inputs.floats(kCols);
  const int32_t ids[kRows] = {2, -1, 0, 4, 1};
  const ConstMatrix matrix = contiguous<const float>(gradient.data(), kRows, kCols);
  const InputElement input{ids, matrix, true};
  const CoverElement cover{ids, matrix, {rows.data(), columns.data(), 0.9f, 0.1f}};
  const EntryElement entry{ids, rows.data()};
  const FactoredState factored{rows.data(), columns.data(), false, {1.0f, 0.0f, false}};
  const FactoredState least{rows.data(), columns.data(), true, {0.9f, 0.1f, true}};
  for (int64_t r = 0; r < kRows; ++r) {
    print("EntryElement", static_cast<float>(entry(r)));
    print("InputElement::skip", uint64_t{input.skip(r)});
    print("CoverElement::skip", uint64_t{cover.skip(r)});
    if (input.skip(r)) continue;
    for (int64_t c = 0; c < kCols; ++c) {
      print("InputElement", static_cast<float>(input.row(r)(c)));
      print("CoverElement", static_cast<float>(cover.row(r)(c)));
      print("FactoredState", factored.row(r, ids[r]).next(c, matrix(r, c)));
      print("FactoredState, minimum", least.row(r, ids[r]).next(c, matrix(r, c)));
    }
  }
  const ProductElement by_column{ids, matrix, true, columns.data(), nullptr};
  const ProductElement by_entry{ids, matrix, false, nullptr, values.data()};
  const EntryProduct product{ids, rows.data(), values.data()};
  const double squares = 0.7, more = 0.2;
  std::vector<float> sums = values, turned(kRows);
  for (int64_t c = 0; c < kCols; ++c) {
    print("ProductElement", static_cast<float>(by_column.row(0)(c)));
    print("ProductElement", static_cast<float>(by_entry.row(0)(c)));
    CombineColumn{{&squares, &more, {&squares, &more}}, 0.1f, columns.data(), sums.data()}(c);
    OverLength{{&squares}, sums.data(), nullptr}(c);
    MultiplyBy{&more, sums.data()}(c);
  }
  for (int64_t r = 0; r < kRows; ++r) {
    print("EntryProduct", static_cast<float>(product(r)));
    AddToEntry{ids, rows.data(), 0.1f, values.data(), turned.data()}(r);
  }
  print("CombineColumn, OverLength, MultiplyBy", sums);
  print("AddToEntry", turned);
  print("Largest", static_cast<float>(Largest::of(1.0, 2.0)));
  print("AddUp", static_cast<float>(AddUp::of(1.0, 2.0)));
  const float part = 0.3f, whole = 0.7f;
  std::vector<float> spread = columns;
  for (int64_t i = 0; i < kRows; ++i) AdvanceEntry{ids, {0.9f, 0.1f}, values.data(), x.data()}(i);
  for (int64_t i = 0; i < kCols; ++i) {
    RaiseEntry{values.data(), x.data()}(i);
    AdvanceColumn{{0.9f, 2.0f, &part, &whole}, 0.1f, values.data(), x.data()}(i);
    OverMean{x.data(), &whole, static_cast<float>(kCols), columns.data()}(i);
    SpreadMinimum{{1, kCols, 1}, values.data(), spread.data()}(i);
    AxisMaximum{{1, kCols, 1}, columns.data(), values.data()}(i);
  }
  print("AdvanceEntry, RaiseEntry, AdvanceColumn", x);
  const std::vector<int32_t> last_steps{0, 7, 100, 3, 99};
  std::vector<float> decays(kRows);
  for (int64_t r = 0; r < kRows; ++r) {
    DecaySince{ids, last_steps.data(), 101, 0.97f, decays.data()}(r);
  }
  print("DecaySince", decays);
  print("OverMean", columns);
  print("SpreadMinimum", spread);
  print("AxisMaximum", values);

  std::vector<uint16_t> halves(kCount);
  std::vector<uint8_t> codes(kCount);
  std::vector<float> scales(kRows, 0.01f);
  const Bf16State bf16{contiguous(halves.data(), kRows, kCols), {0.9f, 0.1f, true}, {35}};
  const BlockState block{contiguous(codes.data(), kRows, kCols),
                         contiguous(scales.data(), kRows, int64_t{1}),
                         true,
                         {0.9f, 0.1f, false},
                         {35}};
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) {
      const Bf16State::Row half = bf16.row(r, r);
      const float next = half.next(c, matrix(r, c));
      half.store(c, next);
      print("Bf16State", next);
      print("Bf16State after", uint64_t{halves[static_cast<size_t>(r * kCols + c)]});
      const float value = block.row(r, r).next(c, matrix(r, c), 0.01f);
      print("BlockState", value);
      block.row(r, r).store(c, value, 30.0f);
      print("BlockState after", uint64_t{codes[static_cast<size_t>(r * kCols + c)]});
    }
  }
}

void print_updates(Inputs& inputs) {
  std::vector<float> state = inputs.floats(kCount);
  const DenseState dense{matrix_of(state), {0.9f, 0.1f, true}};
  const auto dense_row = dense.row(2, 2);
  const auto no_row = NoState{}.row(2, 2);
  for (int64_t c = 0; c < kCols; ++c) {
    const float w = inputs.number(1.0f), g = inputs.number(1.0f), m = inputs.number(1.0f),
                v = std::abs(inputs.number(1.0f));
    print("SgdRule", SgdRule{0.1f}(w, g, m, v));
    print("MomentumRule", MomentumRule{0.1f, 1.0f, 0.9f}(w, g, m, v));
    print("RootScaledRule", RootScaledRule{0.1f, 1e-8f, 0.2f}(w, g, m, v));
    print("AdamRule", AdamRule{0.1f, 1.3f, 1e-8f, 0.99f}(w, g, m, v));
    print("Sm3Rule", Sm3Rule{0.1f, 1e-8f}(w, g, m, c % 5 == 0 ? 0.0f : v));
    dense_row.store(c, dense_row.next(dense_row.load(c), g));
    no_row.store(c, 1.0f);
    print("NoState", no_row.next(no_row.load(c), g));
    print("Accumulate::input", Accumulate{0.9f, 0.1f, false}.input(g));
  }
  print("DenseState", state);
}

}  // namespace

void print_labels(Inputs& inputs) {
  std::vector<float> logits = inputs.floats(kCount);
  const std::vector<float> bias = inputs.floats(kCols), weights = inputs.floats(8);
  const std::vector<int32_t> begin = {0, 2, 2, 5, 7, 8}, columns = {0, 36, 5, 9, 17, 3, 4, 20};
  const std::vector<int32_t> table_rows = {0, 4, 1, 3, 2, 2, 0, 1};
  const CsrMatrix labels{kRows, begin.data(), columns.data(), weights.data()};
  std::vector<float> sums(kRows), product(kCount);
  for_each(kPolicy, kRows, TakeLabelLogits{matrix_of(logits), bias.data(), labels, sums.data()});
  print("TakeLabelLogits", sums);
  for_each_row(kPolicy, kRows, kCols,
               MultiplyCsrRow{{kRows, begin.data(), table_rows.data(), weights.data()},
                              matrix_of(logits),
                              matrix_of(product)});
  print("MultiplyCsrRow", product);
  for (int64_t c = 0; c < kCols; ++c) {
    print("SigmoidLogit", SigmoidLogit<true>{logits.data(), bias.data(), 0.25f}(c));
  }
  for_each(kPolicy, kRows, SubtractLabels{labels, 0.25f, matrix_of(logits)});
  print("SubtractLabels", logits);
}

int main() {
  Inputs inputs;
  print_elementwise(inputs);
  print_random(inputs);
  print_lstm(inputs);
  print_reductions(inputs);
  print_rows(inputs);
  print_sketches(inputs);
  print_hashes(inputs);
  print_softmax(inputs);
  print_labels(inputs);
  print_updates(inputs);
  print_low_precision(inputs);
  print_factors(inputs);
  return 0;
}
