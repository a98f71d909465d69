#pragma once

#include <string>

#include "sketchgrad/apps/common/token_ids.h"

namespace sketchgrad::apps {

// One segment of the columns.
struct Segment {
  Tensor inputs;   // int32 [steps, batch]
  Tensor targets;  // int32 [steps, batch]: the token after each input
  int64_t tokens() const { return targets.numel(); }
};

// A token stream in the layout of language models: cut into `batch` columns of equal length (what
// is left over at the end is dropped), which are walked side by side in segments of `bptt` steps.
// A segment goes on where the one before ended, so that recurrent state is carried over. Every
// token of a column but its first is a target once; the last segment may be shorter.
class ColumnBatches {
 public:
  // `limit`: only so many tokens from the beginning; 0: all. The ids are not copied but for those
  // of a segment. Throws InvalidArgument, which begins with `text`, where a column would be shorter
  // than two tokens.
  ColumnBatches(TokenIds ids, int64_t batch, int64_t bptt, int64_t limit = 0,
                const std::string& text = "[batches]");

  int64_t batch() const { return batch_; }
  int64_t segments() const { return (column_ - 1 + bptt_ - 1) / bptt_; }
  // In all segments together.
  int64_t targets() const { return (column_ - 1) * batch_; }
  Segment segment(int64_t index) const;

 private:
  TokenIds ids_;
  int64_t batch_;
  int64_t bptt_;
  int64_t column_;  // tokens of one
};

}  // namespace sketchgrad::apps
