#include <fmt/format.h>

#include <array>
#include <memory>

#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lstm.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/layers/embedding.h"
#include "sketchgrad/layers/full_softmax.h"
#include "sketchgrad/layers/lstm.h"
#include "sketchgrad/layers/softmax_chunks.h"
#include "sketchgrad/optim/adam.h"
#include "sketchgrad/optim/clip.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

using kernels::Transpose;

constexpr int64_t kSteps = 35;
constexpr int64_t kBatch = 20;
constexpr int64_t kTokens = kSteps * kBatch;
constexpr int64_t kWidth = 200;  // of the embedding and of the LSTM
constexpr int64_t kLayers = 2;
constexpr int64_t kGates = 4 * kWidth;
constexpr int64_t kVocabulary = 33278;
constexpr double kClipNorm = 0.25;

enum Phase { kEmbedding, kLstm, kSoftmax, kClip, kOptimizer, kPhases };

// Seconds since the last call go to a phase.
class Stopwatch {
 public:
  // disabled: phases run into each other, and only their sum means something.
  explicit Stopwatch(bool enabled) : enabled_(enabled) {}
  void lap(Phase phase) {
    if (!enabled_) return;
    const double now = seconds_now();
    seconds_[phase] += now - last_;
    last_ = now;
  }
  std::vector<double> parts() const { return {seconds_.begin(), seconds_.end()}; }

 private:
  bool enabled_;
  double last_ = seconds_now();
  std::array<double, kPhases> seconds_{};
};

// The identity; on the way back it ends a phase.
Variable end_of_backward(Tape& tape, const Variable& x, Phase phase, Stopwatch& watch) {
  return tape.record("phase", x.value, {&x},
                     [place = x.place(), phase, &watch](Tape& t, const Tensor& gradient) {
                       watch.lap(phase);
                       t.add_gradient(place, gradient);
                     });
}

// An LSTM language model without dropout, and its optimizer. Tables get `moments`, the rest dense
// state.
class LanguageModel {
 public:
  explicit LanguageModel(const Moments& moments)
      : embedding_("embedding", {.rows = kVocabulary, .dim = kWidth}, rng_, device()),
        lstm_("lstm", {.input = kWidth, .hidden = kWidth, .layers = kLayers}, rng_, device()),
        softmax_("softmax", {.input = kWidth, .classes = kVocabulary}, rng_, nullptr, device()),
        optimizer_(Adam{.learning_rate = 1e-6f}),
        state_(lstm_.zero_state(kBatch)) {
    optimizer_.add(embedding_.weight(), moments);
    optimizer_.add(softmax_.weight(), moments);
    optimizer_.add(*softmax_.bias());
    optimizer_.add(lstm_.parameters());
    const std::vector<int32_t> ids = zipf_ids(kVocabulary, kTokens + kBatch);
    const std::vector<int32_t> inputs(ids.begin(), ids.end() - kBatch);
    active_ = sorted_unique(inputs).size();
    // On the CPU, as those of a text are.
    inputs_ = Tensor::from(inputs, {kSteps, kBatch}, {Category::data, "bench.ids"});
    targets_ = Tensor::from(std::vector<int32_t>(ids.begin() + kBatch, ids.end()), {kTokens},
                            {Category::data, "bench.ids"});
  }

  // Seconds of each phase of one training step.
  std::vector<double> step() {
    Stopwatch watch(/*enabled=*/true);
    step(watch);
    return watch.parts();
  }
  // Seconds a step, of several that no measurement separates.
  std::vector<double> steps() {
    constexpr int kRepeats = 10;
    Stopwatch watch(/*enabled=*/false);
    const double start = seconds_now();
    for (int i = 0; i < kRepeats; ++i) step(watch);
    return {(seconds_now() - start) / kRepeats};
  }

  // Rows of the embedding in a step, and whether gradients were scaled in the last one.
  double active() const { return static_cast<double>(active_); }
  bool clipped() const { return clipped_; }

 private:
  void step(Stopwatch& watch) {
    {
      Tape tape;
      const Variable embedded =
          end_of_backward(tape, embedding_.forward(tape, inputs_), kLstm, watch);
      watch.lap(kEmbedding);
      const Variable features =
          end_of_backward(tape, lstm_.forward(tape, embedded, state_), kSoftmax, watch);
      watch.lap(kLstm);
      const Variable loss = softmax_.loss(tape, features, targets_);
      tape.backward(loss);
    }
    embedding_.weight().gradient.rows();
    watch.lap(kEmbedding);
    clip();
    watch.lap(kClip);
    optimizer_.step();
    optimizer_.clear_gradients();
    watch.lap(kOptimizer);
  }
  void clip() {
    if (device() == kCpu) {
      clipped_ = clip_global_norm(optimizer_.parameters(), kClipNorm) > kClipNorm;
    } else {
      clip_global_norm_on_device(optimizer_.parameters(), kClipNorm);
      clipped_ = true;  // by a factor of 1 or less
    }
  }

  Rng rng_{1};
  Embedding embedding_;
  Lstm lstm_;
  FullSoftmax softmax_;
  Optimizer optimizer_;
  LstmState state_;
  Tensor inputs_;
  Tensor targets_;
  size_t active_ = 0;
  bool clipped_ = false;
};

// ---- The same kernels as the layers call, on their own.

// Every product of the LSTM's forward and backward pass.
class LstmProducts {
 public:
  void run() const {
    for (int64_t layer = 0; layer < kLayers; ++layer) {
      product(Transpose::no, Transpose::yes, x_, w_, 0.0f, gates_);
      for (int64_t t = 0; t < kSteps; ++t) {
        product(Transpose::no, Transpose::yes, at(x_, t), w_, 1.0f, at(gates_, t));
        if (t > 0) product(Transpose::no, Transpose::no, at(gates_, t), w_, 1.0f, at(out_, t));
      }
      for (int i = 0; i < 2; ++i) product(Transpose::yes, Transpose::no, gates_, x_, 0.0f, grad_w_);
      product(Transpose::no, Transpose::no, gates_, w_, 0.0f, out_);
    }
  }
  static Work work() {
    // Of x and of h: forward, gradient of the input, gradient of the weight.
    const double multiply_adds = 6.0 * kLayers * kTokens * kGates * kWidth;
    return {0, 2 * multiply_adds, "2 x 6 x layers x tokens x 4H x H FLOP"};
  }

 private:
  static Tensor at(const Tensor& all, int64_t t) { return all.rows(t * kBatch, kBatch); }
  static void product(Transpose ta, Transpose tb, const Tensor& a, const Tensor& b, float beta,
                      const Tensor& c) {
    kernels::gemm(a.exec(), ta, tb, 1.0f, a.matrix(), b.matrix(), beta, c.matrix());
  }

  Tensor x_ = random_tensor({kTokens, kWidth}, 0.01f);
  Tensor w_ = random_tensor({kGates, kWidth}, 0.01f);
  Tensor gates_ = random_tensor({kTokens, kGates}, 0.01f);
  Tensor out_ = random_tensor({kTokens, kWidth}, 0.01f);
  Tensor grad_w_ = random_tensor({kGates, kWidth}, 0.01f);
};

// Every pointwise pass of the LSTM.
class LstmCells {
 public:
  void run() const {
    for (int64_t i = 0; i < kLayers * kSteps; ++i) {
      kernels::lstm_cell_forward(c_.exec(), gates_.matrix(), bias_.data<float>(),
                                 bias_.data<float>(), c_.matrix(), c_.matrix(), h_.matrix());
      kernels::lstm_cell_backward(c_.exec(), gates_.matrix(), h_.matrix(), c_.matrix(), h_.matrix(),
                                  grad_c_.matrix());
    }
  }
  static Work work() {
    const double units = static_cast<double>(kLayers * kTokens * kWidth);
    return {96 * units, 235 * units, "235 FLOP (6 exp), 96 B a unit and step", true};
  }

 private:
  Tensor gates_ = random_tensor({kBatch, kGates}, 1.0f);
  Tensor bias_ = random_tensor({kGates}, 0.1f);
  Tensor c_ = random_tensor({kBatch, kWidth}, 1.0f);
  Tensor h_ = random_tensor({kBatch, kWidth}, 1.0f);
  Tensor grad_c_ = random_tensor({kBatch, kWidth}, 1.0f);
};

// Products and pointwise passes of the softmax, chunk by chunk as the layer walks.
class SoftmaxParts {
 public:
  // Seconds of the products and of the rest.
  std::vector<double> run() const {
    double products = 0;
    const double start = seconds_now();
    for (const IndexRange tokens : plan_.tokens) {
      const kernels::Matrix logits = logits_.rows(0, tokens.count).matrix();
      const kernels::Matrix x = x_.matrix().row_range(tokens.begin, tokens.count);
      products += product(Transpose::no, Transpose::yes, x, w_.matrix(), 0.0f, logits);
      pointwise(logits);
      products += product(Transpose::no, Transpose::no, logits, w_.matrix(), 0.0f,
                          grad_x_.matrix().row_range(tokens.begin, tokens.count));
      products += product(Transpose::yes, Transpose::no, logits, x, tokens.begin == 0 ? 0.0f : 1.0f,
                          grad_w_.matrix());
    }
    return {products, seconds_now() - start - products};
  }
  static Work product_work() {
    return {0, 6.0 * kTokens * kVocabulary * kWidth, "3 x 2 tokens V D FLOP"};
  }
  static Work pointwise_work() {
    const double logits = static_cast<double>(kTokens * kVocabulary);
    return {20 * logits, 51 * logits, "20 B (update, gradient, bias), 51 FLOP (2 exp) a logit"};
  }

 private:
  double product(Transpose ta, Transpose tb, kernels::ConstMatrix a, kernels::ConstMatrix b,
                 float beta, kernels::Matrix c) const {
    const double start = seconds_now();
    kernels::gemm(x_.exec(), ta, tb, 1.0f, a, b, beta, c);
    return seconds_now() - start;
  }
  void pointwise(kernels::Matrix logits) const {
    const kernels::Exec exec = x_.exec();
    float* const data = online_.data<float>();
    const kernels::OnlineSoftmax online{data, data + kTokens, data + 2 * kTokens};
    kernels::online_softmax_begin(exec, online, logits.rows);
    kernels::online_softmax_update(exec, logits, bias_.data<float>(), 0, targets_.data<int32_t>(),
                                   online);
    kernels::softmax_cross_entropy_gradient(exec, logits, nullptr, 0, targets_.data<int32_t>(),
                                            online, 0.001f);
    kernels::add_column_sums(exec, logits, bias_.data<float>());
  }

  ChunkPlan plan_{kTokens, kVocabulary, FullSoftmaxOptions{}.chunk_bytes};
  Tensor x_ = random_tensor({kTokens, kWidth}, 0.1f);
  Tensor w_ = random_tensor({kVocabulary, kWidth}, 0.1f);
  Tensor bias_ = random_tensor({kVocabulary}, 0.1f);
  Tensor targets_ = id_tensor(zipf_ids(kVocabulary, kTokens), {kTokens});
  Tensor logits_ = random_tensor({plan_.tokens.front().count, kVocabulary}, 0.1f);
  Tensor online_ = random_tensor({3, kTokens}, 0.1f);
  Tensor grad_x_ = random_tensor({kTokens, kWidth}, 0.1f);
  Tensor grad_w_ = random_tensor({kVocabulary, kWidth}, 0.1f);
};

// ---- The report

struct Elements {
  double embedding;  // of the active rows
  double softmax;    // of the output table
  double rest;
};

Elements elements_of(double active_rows) {
  return {active_rows * kWidth, static_cast<double>(kVocabulary * kWidth),
          static_cast<double>(kVocabulary + kLayers * (2 * kGates * kWidth + 2 * kGates))};
}

Work clip_work(const LanguageModel& model) {
  const Elements elements = elements_of(model.active());
  const double count = elements.embedding + elements.softmax + elements.rest;
  return model.clipped() ? Work{12 * count, 0, "12 B a gradient element (norm, scaling)"}
                         : Work{4 * count, 0, "4 B a gradient element (norm)"};
}

// The state of a sketch is read and written once where all its rows are active.
Work optimizer_work(const LanguageModel& model, double sketch_ratio) {
  const Elements elements = elements_of(model.active());
  const double dense = elements.rest * 28;
  if (sketch_ratio == 0) {
    return {dense + 28 * (elements.embedding + elements.softmax), 0, "28 B an active element"};
  }
  return {dense + 28 * elements.embedding + (12 + 16 * sketch_ratio) * elements.softmax, 0,
          fmt::format("{:.1f} B an element of the output table, else 28", 12 + 16 * sketch_ratio)};
}

std::vector<Work> phase_works(const LanguageModel& model, double sketch_ratio) {
  const Work products = LstmProducts::work();
  const Work cells = LstmCells::work();
  const Work softmax_products = SoftmaxParts::product_work();
  const Work softmax_rest = SoftmaxParts::pointwise_work();
  std::vector<Work> works(kPhases);
  works[kEmbedding] = {8.0 * kTokens * kWidth + 4.0 * (kTokens + model.active()) * kWidth, 0,
                       "8 B an element, 4 B in and out to coalesce"};
  works[kLstm] = {0, products.flops + cells.flops, "FLOP of products and cells"};
  works[kSoftmax] = {0, softmax_products.flops + softmax_rest.flops, "FLOP of both parts"};
  works[kClip] = clip_work(model);
  works[kOptimizer] = optimizer_work(model, sketch_ratio);
  return works;
}

Timing total_of(const std::vector<Timing>& parts) {
  Timing total = parts[0];
  for (size_t p = 1; p < parts.size(); ++p) {
    for (size_t i = 0; i < total.samples.size(); ++i) total.samples[i] += parts[p].samples[i];
  }
  return total;
}

void report_model(const char* name, const LanguageModel& model, double sketch_ratio,
                  const std::vector<Timing>& parts, const Timing& base, Report& report) {
  static constexpr std::array kNames = {"embedding", "lstm", "softmax", "clip", "optimizer"};
  const std::vector<Work> works = phase_works(model, sketch_ratio);
  for (size_t p = 0; p < kPhases; ++p) {
    report.add(fmt::format("{}: {}", name, kNames[p]), works[p], parts[p]);
  }
  const Timing total = total_of(parts);
  report.add(fmt::format("{}: step", name), {0, works[kLstm].flops + works[kSoftmax].flops, "FLOP"},
             total, paired_ratio(total, base));
  report.note(fmt::format("{}: speed", name), kTokens / total.median(), "tokens/s");
}

template <class F>
PartsSampler timed(const F& f) {
  return [&f]() -> std::vector<double> {
    const double start = seconds_now();
    f.run();
    return {seconds_now() - start};
  };
}

void run_step(const Options& options, Report& report) {
  report.begin_group("step",
                     "one step of an LSTM language model: 2 x 200, batch 20, bptt 35, "
                     "vocabulary 33278, full softmax, no dropout");
  constexpr double kRatio = 0.2;
  LanguageModel dense({Dense{}, Dense{}});
  LanguageModel sketched({CountSketch{kRatio}, CountMin{kRatio}});
  const LstmProducts products;
  const LstmCells cells;
  const SoftmaxParts softmax;
  dense.step();
  sketched.step();
  const auto timings = measure_parts({[&] { return dense.step(); }, [&] { return sketched.step(); },
                                      timed(products), timed(cells), [&] { return softmax.run(); }},
                                     2 * options.seconds);
  const Timing base = total_of(timings[0]);
  report_model("dense", dense, 0, timings[0], base, report);
  report_model("CS-MV", sketched, kRatio, timings[1], base, report);
  if (device() != kCpu) {
    const auto speeds = measure_parts(
        {[&] { return dense.steps(); }, [&] { return sketched.steps(); }}, options.seconds);
    report.note("dense: speed without measurements inside", kTokens / speeds[0][0].median(),
                "tokens/s");
    report.note("CS-MV: speed without measurements inside", kTokens / speeds[1][0].median(),
                "tokens/s");
  }
  report.add("part: lstm products", LstmProducts::work(), timings[2][0]);
  report.add("part: lstm cells", LstmCells::work(), timings[3][0]);
  report.add("part: softmax products", SoftmaxParts::product_work(), timings[4][0]);
  report.add("part: softmax, rest", SoftmaxParts::pointwise_work(), timings[4][1]);
}

}  // namespace

std::vector<Group> step_groups() { return {{"step", run_step}}; }

}  // namespace sketchgrad::bench
