#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "sketchgrad/layers/adaptive_cutoffs.h"
#include "sketchgrad/layers/adaptive_softmax.h"
#include "sketchgrad/layers/lsh_softmax.h"
#include "sketchgrad/layers/sampled_softmax.h"
#include "sketchgrad/tools/bench/data.h"
#include "sketchgrad/tools/bench/groups.h"

namespace sketchgrad::bench {

namespace {

constexpr int64_t kTokens = 1120;  // 32 x 35
constexpr int64_t kSamples = 8192;
constexpr int64_t kMostClasses = 266'674;  // a full softmax over more takes long

// Loss and gradients of one layer for one batch.
struct LayerStep {
  LayerStep(std::unique_ptr<OutputLayer> the_layer, const Tensor& the_targets, int64_t dim)
      : layer(std::move(the_layer)), x("x", {kTokens, dim}, device()), targets(the_targets) {
    x.value.copy_from(random_tensor({kTokens, dim}, 1.0f));
  }
  void run() {
    Tape tape;
    tape.backward(layer->loss(tape, tape.leaf(x), targets));
    for (Parameter* parameter : layer->parameters()) parameter->gradient.clear();
    x.gradient.clear();
  }

  std::unique_ptr<OutputLayer> layer;
  Parameter x;
  Tensor targets;
};

double lsh_statistic(const OutputLayer& layer, const std::string& wanted) {
  for (const auto& [name, value] : layer.statistics()) {
    if (name == wanted) return value;
  }
  return 0;
}

// Counts of a Zipf distribution, and the cutoffs for it.
std::vector<int64_t> zipf_cutoffs(int64_t classes, int64_t dim) {
  std::vector<int64_t> counts;
  for (int64_t v = 0; v < classes; ++v) counts.push_back(1 + 100 * classes / (v + 1));
  return choose_cutoffs(counts, measure_product_cost(kTokens, dim, device()),
                        {.input = dim, .tokens = kTokens});
}

// Of head and clusters, for these targets.
Work adaptive_work(const std::vector<int64_t>& cutoffs, const std::vector<int32_t>& targets,
                   int64_t classes, int64_t dim) {
  const auto input = static_cast<double>(dim);
  double multiply_adds = kTokens * static_cast<double>(cutoffs[0]) * input;
  double columns = input;
  for (size_t i = 0; i < cutoffs.size(); ++i) {
    const int64_t end = i + 1 < cutoffs.size() ? cutoffs[i + 1] : classes;
    columns = std::max(1.0, std::floor(columns / 4.0));
    const auto tokens =
        static_cast<double>(std::count_if(targets.begin(), targets.end(), [&](int32_t target) {
          return target >= cutoffs[i] && target < end;
        }));
    multiply_adds += tokens * columns * (input + static_cast<double>(end - cutoffs[i]));
  }
  return {0, 6 * multiply_adds, "FLOP of the products"};
}

void run_softmaxes(const Options& options, Report& report) {
  const int64_t classes = std::min(options.rows, kMostClasses), dim = options.dim;
  report.begin_group("softmaxes",
                     fmt::format("loss and gradients of {} tokens over {} classes of {} columns",
                                 kTokens, classes, dim));
  Rng rng(1);
  // On the CPU, as those of a text are.
  const std::vector<int32_t> ids = zipf_ids(classes, kTokens);
  const Tensor targets = Tensor::from(ids, {kTokens}, {Category::data, "targets"});
  const FullSoftmaxOptions size{.input = dim, .classes = classes};
  const int64_t samples = std::min(kSamples, classes / 2);
  const auto products = [dim](double rows) {
    return Work{0, 6.0 * kTokens * rows * static_cast<double>(dim), "FLOP of the three products"};
  };
  std::vector<Case> cases;
  const OutputLayer* lsh = nullptr;
  const auto add = [&](const std::string& name, const Work& work,
                       std::unique_ptr<OutputLayer> layer) {
    const auto step = std::make_shared<LayerStep>(std::move(layer), targets, dim);
    cases.emplace_back(name, work, [step] { step->run(); });
  };
  add("full", products(static_cast<double>(classes)),
      std::make_unique<FullSoftmax>("full", size, rng, nullptr, device()));
  add(fmt::format("sampled, {} classes", samples), products(static_cast<double>(samples)),
      std::make_unique<SampledSoftmax>(
          "sampled", SampledSoftmaxOptions{.softmax = size, .sampler = {.samples = samples}}, rng,
          nullptr, device()));
  for (const bool importance : {false, true}) {
    auto layer = std::make_unique<LshSoftmax>(
        "lsh",
        LshSoftmaxOptions{.softmax = size,
                          // A half found, a half sampled; weighed, all are found.
                          .active = importance ? samples : samples / 2,
                          .tail_samples = samples / 2,
                          .importance = importance,
                          .recall_every = 0},
        rng, nullptr, device());
    if (!importance) lsh = layer.get();
    add(fmt::format("lsh, {} {} classes", importance ? "weighed, about" : "at most", samples),
        products(static_cast<double>(samples)), std::move(layer));
  }
  const std::vector<int64_t> cutoffs = zipf_cutoffs(classes, dim);
  add(fmt::format("adaptive, {} clusters", cutoffs.size()),
      adaptive_work(cutoffs, ids, classes, dim),
      std::make_unique<AdaptiveSoftmax>(
          "adaptive", AdaptiveSoftmaxOptions{.input = dim, .classes = classes, .cutoffs = cutoffs},
          rng, nullptr, device()));
  const std::vector<Timing> timings = measure(cases, options.seconds);
  for (size_t i = 0; i < cases.size(); ++i) {
    report.add(cases[i].name, cases[i].work, timings[i], paired_ratio(timings[i], timings[0]));
  }
  // The first of its steps has built it, before the times were taken.
  report.note("lsh: an index of all classes", lsh_statistic(*lsh, "lsh_rebuild_seconds"), "s");
  report.note("lsh: candidates with targets", lsh_statistic(*lsh, "lsh_active"), "rows");
}

}  // namespace

std::vector<Group> softmax_groups() { return {{"softmaxes", run_softmaxes}}; }

}  // namespace sketchgrad::bench
