#include "sketchgrad/apps/lm/model.h"

#include <utility>

#include "sketchgrad/framework/ops.h"

namespace sketchgrad::apps::lm {

namespace {

// What is an option of the model alone.
struct Sizes : LanguageModelOptions {};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Sizes, vocabulary, embedding_dim, hidden, layers, projection,
                                   dropout, tie, init_range, embedding_range)

const LanguageModelOptions& checked(const LanguageModelOptions& options) {
  check(!options.tie || options.embedding_dim == options.output_dim(),
        "--tie needs --embedding-dim to be {}, the size of the LSTM's output; it is {}",
        options.output_dim(), options.embedding_dim);
  return options;
}

}  // namespace

void to_json(nlohmann::json& json, const LanguageModelOptions& options) {
  json = Sizes{options};
  json.update(nlohmann::json(options.softmax));
}

void from_json(const nlohmann::json& json, LanguageModelOptions& options) {
  options = json.get<Sizes>();
  options.softmax = json.get<SoftmaxOptions>();
}

LanguageModel::LanguageModel(const LanguageModelOptions& options, uint64_t seed, Device device,
                             std::vector<int64_t> counts)
    : options_(checked(options)),
      rng_(seed),
      embedding_("embedding",
                 {.rows = options.vocabulary,
                  .dim = options.embedding_dim,
                  .init_range = static_cast<float>(options.tie ? options.init_range
                                                               : options.embedding_range)},
                 rng_, device),
      lstm_("lstm",
            {options.embedding_dim, options.hidden, options.layers, options.projection,
             static_cast<float>(options.dropout)},
            rng_, device),
      dropout_(static_cast<float>(options.dropout), rng_),
      output_(make_softmax(options.softmax,
                           {.size = {.input = lstm_.output_dim(),
                                     .classes = options.vocabulary,
                                     .init_range = static_cast<float>(options.init_range)},
                            .tied = options.tie ? &embedding_.weight() : nullptr,
                            .counts = std::move(counts)},
                           rng_, device)) {
  add_child(embedding_);
  add_child(lstm_);
  add_child(dropout_);
  add_child(*output_);
}

Variable LanguageModel::features(Tape& tape, const Tensor& inputs, LstmState& state) {
  const Variable embedded = dropout_.forward(tape, embedding_.forward(tape, inputs));
  return dropout_.forward(tape, lstm_.forward(tape, embedded, state));
}

Variable LanguageModel::loss(Tape& tape, const Tensor& inputs, const Tensor& targets,
                             LstmState& state) {
  return output_->loss(tape, features(tape, inputs, state), targets.reshape({-1}));
}

TopK LanguageModel::next_words(const Tensor& inputs, LstmState& state, int64_t k) {
  Tape tape(/*recording=*/false);
  const Tensor all = features(tape, inputs, state).value;
  return output_->top_k(all.rows(all.size(0) - 1, 1).reshape({all.size(1), all.size(2)}), k);
}

void LanguageModel::save_rng(StateDict& state) const {
  state.set_unsigned("rng.seed", rng_.seed());
  state.set_unsigned("rng.offset", rng_.offset());
}

void LanguageModel::load_rng(const StateDict& state) {
  rng_ = Rng(state.unsigned_integer("rng.seed"), state.unsigned_integer("rng.offset"));
}

}  // namespace sketchgrad::apps::lm
