#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lstm.h"
#include "sketchgrad/kernels/random.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

using kernels::Transpose;

// The language model of the paper's size, and a chunk of its softmax (24 MiB of logits).
constexpr int64_t kTokens = 700;
constexpr int64_t kBatch = 20;
constexpr int64_t kWidth = 200;
constexpr int64_t kVocabulary = 33278;
constexpr int64_t kChunkTokens = 189;
constexpr double kExpFlops = 22;  // fast_exp of kernels/math_rules.h

// A product of the shape [m, k] x [k, n].
Case gemm_case(const std::string& name, Transpose ta, Transpose tb, int64_t m, int64_t n, int64_t k,
               float beta = 0.0f) {
  const auto operand = [](Transpose t, int64_t rows, int64_t cols) {
    return random_tensor(t == Transpose::yes ? Shape{cols, rows} : Shape{rows, cols}, 1.0f);
  };
  const Tensor a = operand(ta, m, k);
  const Tensor b = operand(tb, k, n);
  const Tensor c = zeros({m, n});
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * k;
  return {name,
          {4.0 * static_cast<double>(m * k + k * n + m * n), flops, "2 m n k", m * n < (1 << 18)},
          [=] { kernels::gemm(a.exec(), ta, tb, 1.0f, a.matrix(), b.matrix(), beta, c.matrix()); }};
}

void run_gemm(const Options& options, Report& report) {
  report.begin_group("kernels.gemm", "products of the language model's shapes");
  const auto no = Transpose::no, yes = Transpose::yes;
  const int64_t gates = 4 * kWidth;
  run_cases({gemm_case("logits, 700 tokens", no, yes, kTokens, kVocabulary, kWidth),
             gemm_case("logits, a chunk of 189", no, yes, kChunkTokens, kVocabulary, kWidth),
             gemm_case("softmax dX, chunk", no, no, kChunkTokens, kWidth, kVocabulary),
             gemm_case("softmax dW, chunk", yes, no, kVocabulary, kWidth, kChunkTokens, 1.0f),
             gemm_case("lstm x-projection", no, yes, kTokens, gates, kWidth),
             gemm_case("lstm recurrent", no, yes, kBatch, gates, kWidth, 1.0f),
             gemm_case("lstm recurrent, backward", no, no, kBatch, kWidth, gates, 1.0f),
             gemm_case("lstm dW", yes, no, gates, kWidth, kTokens)},
            options, report);
}

// State of the online softmax of one chunk, and what it works on.
struct SoftmaxChunk {
  Tensor logits = random_tensor({kChunkTokens, kVocabulary}, 4.0f);
  Tensor bias = random_tensor({kVocabulary}, 0.1f);
  Tensor targets = id_tensor(zipf_ids(kVocabulary, kChunkTokens), {kChunkTokens});
  Tensor state = random_tensor({3, kChunkTokens}, 1.0f);

  kernels::OnlineSoftmax online() const {
    float* const data = state.data<float>();
    return {data, data + kChunkTokens, data + 2 * kChunkTokens};
  }
};

void run_softmax(const Options& options, Report& report) {
  report.begin_group("kernels.softmax", "a chunk of [189, 33278] logits");
  const auto chunk = std::make_shared<SoftmaxChunk>();
  const kernels::Exec exec = chunk->logits.exec();
  const double count = static_cast<double>(chunk->logits.numel());
  const auto fresh = [=] {
    chunk->logits.fill(0.5f);
    kernels::online_softmax_begin(exec, chunk->online(), kChunkTokens);
  };
  const auto update = [=] {
    kernels::online_softmax_update(exec, chunk->logits.matrix(), chunk->bias.data<float>(), 0,
                                   chunk->targets.data<int32_t>(), chunk->online());
  };
  const auto seen = [=] {
    fresh();
    update();
  };
  const auto gradient = [=] {
    kernels::softmax_cross_entropy_gradient(exec, chunk->logits.matrix(), nullptr, 0,
                                            chunk->targets.data<int32_t>(), chunk->online(), 0.01f);
  };
  run_cases({{"online update",
              {8 * count, (kExpFlops + 4) * count, "8 B, 22 (exp) + 4 FLOP a logit"},
              update,
              fresh},
             {"gradient",
              {8 * count, (kExpFlops + 2) * count, "8 B, 22 (exp) + 2 FLOP a logit"},
              gradient,
              seen}},
            options, report);
}

// Arrays of a cell for `batch` sequences of `units` units.
struct Cell {
  int64_t batch;
  int64_t units;
  Tensor gates = random_tensor({batch, 4 * units}, 1.0f);
  Tensor bias = random_tensor({4 * units}, 0.1f);
  Tensor c_previous = random_tensor({batch, units}, 1.0f);
  Tensor c = random_tensor({batch, units}, 1.0f);
  Tensor h = random_tensor({batch, units}, 1.0f);
  Tensor grad_c = random_tensor({batch, units}, 1.0f);

  void forward() const {
    kernels::lstm_cell_forward(gates.exec(), gates.matrix(), bias.data<float>(), bias.data<float>(),
                               c_previous.matrix(), c.matrix(), h.matrix());
  }
  void backward() const {
    kernels::lstm_cell_backward(gates.exec(), gates.matrix(), c_previous.matrix(), c.matrix(),
                                h.matrix(), grad_c.matrix());
  }
};

std::vector<Case> cell_cases(int64_t batch, int64_t units) {
  const auto cell = std::make_shared<Cell>(Cell{batch, units});
  const double count = static_cast<double>(batch * units);
  const bool in_cache = 60.0 * count < (1 << 20);
  const std::string size = fmt::format("[{}, {}]", batch, units);
  // Repeated passes drive the gates to 0 and to denormal numbers: both begin from the same ones.
  const Tensor start = random_tensor(cell->gates.shape(), 1.0f);
  const auto fresh = [=] {
    cell->gates.copy_from(start);
    cell->grad_c.fill(0.1f);
  };
  return {{"cell forward " + size,
           {44 * count, 170 * count, "44 B, 170 FLOP (5 exp) a unit", in_cache},
           [=] { cell->forward(); },
           fresh},
          {"cell backward " + size,
           {52 * count, 65 * count, "52 B, 65 FLOP (1 exp) a unit", in_cache},
           [=] { cell->backward(); },
           fresh}};
}

void run_lstm(const Options& options, Report& report) {
  report.begin_group("kernels.lstm", "pointwise part of the LSTM cell");
  std::vector<Case> cases = cell_cases(kBatch, kWidth);
  for (Case& one : cell_cases(4096, 512)) cases.push_back(std::move(one));
  run_cases(cases, options, report);
}

void run_update(const Options& options, Report& report) {
  report.begin_group("kernels.update", "Adam with dense state, all rows active");
  constexpr int64_t kElements = int64_t{1} << 25;
  const auto array = [](float range) { return random_tensor({1, kElements}, range); };
  const Tensor w = array(1.0f), g = array(0.01f), m = array(0.01f);
  const Tensor v = zeros({1, kElements});
  v.fill(1e-4f);
  const auto adam = [=] {
    kernels::update_rows(w.exec(), kernels::AdamRule{1e-6f, 1.0f, 1e-8f, 1.0f},
                         kernels::DenseState{m.matrix(), {0.9f, 0.1f, false}},
                         kernels::DenseState{v.matrix(), {0.999f, 0.001f, true}}, nullptr,
                         g.matrix(), w.matrix());
  };
  run_cases({{"update_rows, 33.6M elements",
              {28.0 * kElements, 14.0 * kElements, "28 B an element: g, 2 x (w, m, v)"},
              adam}},
            options, report);
}

void run_rows(const Options& options, Report& report) {
  report.begin_group("kernels.rows", fmt::format("{} uniformly random sorted rows of [{}, {}]",
                                                 options.active, options.rows, options.dim));
  const Tensor table = random_tensor({options.rows, options.dim}, 1.0f, Category::parameter);
  const RowSparse gradient =
      random_gradient(options.rows, options.dim, uniform_rows(options.rows, options.active));
  const int64_t count = gradient.count();
  const double elements = static_cast<double>(count * options.dim);
  const Tensor out = random_tensor({count, options.dim}, 1.0f);
  const kernels::Exec exec = table.exec();

  RowSparse repeated = random_gradient(options.rows, options.dim, zipf_ids(options.rows, count));
  repeated.coalesced = false;
  const auto distinct = sorted_unique(repeated.ids.to_vector<int32_t>());
  const double sums = static_cast<double>(distinct.size()) * static_cast<double>(options.dim);
  run_cases({{"gather rows",
              {8 * elements, 0, "8 B an element"},
              [=] {
                kernels::gather_rows(exec, table.matrix(), gradient.ids.data<int32_t>(), -1,
                                     out.matrix());
              }},
             {"scatter add rows",
              {12 * elements, 0, "12 B an element"},
              [=] {
                kernels::scatter_add_rows(exec, gradient.values.matrix(),
                                          gradient.ids.data<int32_t>(), 1.0f, table.matrix());
              }},
             {fmt::format("coalesce Zipf to {} rows", distinct.size()),
              {4 * (elements + sums), 0, "4 B an element in and out"},
              [=] { coalesce({repeated}); }}},
            options, report);
}

void run_dropout(const Options& options, Report& report) {
  report.begin_group("kernels.dropout", "masks from a counter-based generator");
  const auto dropout_case = [](const char* name, int64_t count, bool in_cache) {
    const Tensor x = random_tensor({count}, 1.0f);
    const Tensor y = random_tensor({count}, 1.0f);
    return Case{name, {8.0 * static_cast<double>(count), 0, "8 B an element", in_cache}, [=] {
                  kernels::dropout(x.exec(), {1, 2}, 0.2f, x.data<float>(), y.data<float>(), count);
                }};
  };
  run_cases({dropout_case("700 x 200", kTokens * kWidth, true),
             dropout_case("33.6M elements", int64_t{1} << 25, false)},
            options, report);
}

}  // namespace

std::vector<Group> kernel_groups() {
  return {{"kernels.gemm", run_gemm}, {"kernels.softmax", run_softmax},
          {"kernels.lstm", run_lstm}, {"kernels.update", run_update},
          {"kernels.rows", run_rows}, {"kernels.dropout", run_dropout}};
}

}  // namespace sketchgrad::bench
