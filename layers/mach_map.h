#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

struct MachMapOptions {
  int64_t classes = 0;
  int64_t buckets = 0;  // meta-classes of a repetition
  uint64_t seed = 0;
  bool stored = true;  // false: buckets are computed whenever they are asked for
};

// MACH's hash functions (Medini, Huang, Wang, Mohan, Shrivastava: "Extreme Classification in Log
// Memory using Count-Min Sketch", NeurIPS 2019): repetition r puts class c into bucket
// h_r(c) of its own, B of them. h_r(c) is a random word times B (Lemire 2019), and the word is
// Philox of (seed, r, c). So it is the same in whichever process, and whatever other repetitions a
// map holds: maps hold a list of repetition numbers, and say "place" for an index into it.
class MachMap {
 public:
  // Throws InvalidArgument for sizes below 1 or beyond int32, and for repetitions that are none,
  // negative or there twice.
  MachMap(const std::string& name, std::vector<int32_t> repetitions, const MachMapOptions&);

  const std::string& name() const { return name_; }
  const std::vector<int32_t>& repetitions() const { return repetitions_; }
  int64_t places() const { return static_cast<int64_t>(repetitions_.size()); }
  int64_t classes() const { return options_.classes; }
  int64_t buckets() const { return options_.buckets; }

  // h_r(c) of one class, in the repetition at `place`.
  int32_t bucket(int64_t place, int64_t class_id) const {
    return options_.stored ? row(class_id)[place] : computed_bucket(place, class_id);
  }
  // Of all repetitions: out [places].
  void buckets_of_class(int64_t class_id, int32_t* out) const;
  // Of the classes [begin, begin + count), all repetitions: int32 [count, places]. A pointer to
  // what is stored, or to `room` (count * places), once they have been computed there.
  const int32_t* buckets_of_classes(int64_t begin, int64_t count, int32_t* room) const;
  // Of the classes [begin, begin + count) in one repetition: out [count].
  void buckets_of_place(int64_t place, int64_t begin, int64_t count, int32_t* out) const;

  // int32 [classes, places], or undefined. A class's buckets lie side by side, since whoever scores
  // a class needs them all: one or two cache lines, whether classes are streamed or scattered.
  const Tensor& stored() const { return stored_; }

 private:
  int32_t computed_bucket(int64_t place, int64_t class_id) const;
  const int32_t* row(int64_t class_id) const { return all_ + class_id * places(); }
  void compute(int64_t begin, int64_t count, int32_t* out) const;

  // Four repetitions share one draw a class: those with the same number / 4.
  struct Draw {
    uint64_t group;
    struct Word {
      int64_t place;
      int word;
    };
    std::vector<Word> words;
  };

  std::string name_;
  std::vector<int32_t> repetitions_;
  MachMapOptions options_;
  std::vector<Draw> draws_;
  Tensor stored_;
  const int32_t* all_ = nullptr;  // of stored_
};

}  // namespace sketchgrad
