#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sketchgrad/layers/mach_map.h"
#include "sketchgrad/layers/multi_label_output.h"

namespace sketchgrad {

struct MachOptions {
  int64_t input = 0;
  int64_t classes = 0;
  int64_t buckets = 0;               // meta-classes of a repetition
  std::vector<int32_t> repetitions;  // their numbers; those that this process has
  uint64_t seed = 0;                 // of hash functions and of initial values
  MultiLabelLoss loss = MultiLabelLoss::softmax;
  bool stored_map = true;  // MachMapOptions::stored
  float init_range = 0.1f;
  int64_t chunk_bytes = int64_t{24} << 20;
};

// Merged-average classifiers via hashing (Medini et al. 2019, "Extreme Classification in Log Memory
// using Count-Min Sketch"): repetition r hashes classes into buckets and learns to tell the buckets
// apart, by a layer of its own. Scores of classes follow from the probabilities of their buckets
// (mach_top_k.h, mach_index.h). Everything about a repetition, its hash function and its initial
// values, follows from the seed and its number: it is the same whichever repetitions stand beside
// it.
class Mach : public Module {
 public:
  Mach(const std::string& name, const MachOptions&, Device = kCpu);

  // x: [tokens, input], one for all repetitions or one for each. labels [tokens, classes] without
  // values, on the CPU. The sum over repetitions of the losses of MultiLabelOutput, where the
  // labels are the buckets of a token's labels: for a softmax each label brings its share to its
  // bucket, for a sigmoid a bucket is a label once.
  Variable loss(Tape&, std::span<const Variable> x, const SparseRows& labels);

  // Of buckets: float32 [tokens, buckets] on the CPU for each repetition. x as for loss.
  std::vector<Tensor> probabilities(std::span<const Tensor> x);

  const MachMap& map() const { return map_; }
  int64_t repetitions() const { return map_.places(); }
  Parameter& weight(int64_t place) { return heads_[static_cast<size_t>(place)]->weight(); }

 private:
  // The x of a repetition.
  template <class T>
  const T& of_place(std::span<const T> x, int64_t place) const {
    return x[x.size() == 1 ? 0 : static_cast<size_t>(place)];
  }
  void check_inputs(size_t count) const;

  std::string name_;
  MachOptions options_;
  MachMap map_;
  std::vector<std::unique_ptr<MultiLabelOutput>> heads_;
};

// Draws of a repetition's initial values that are its own, from the seed and its number; `stream`
// tells layers apart.
Rng mach_rng(uint64_t seed, int32_t repetition, uint32_t stream);

}  // namespace sketchgrad
