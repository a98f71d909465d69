#include "sketchgrad/apps/common/batches.h"

#include <algorithm>
#include <utility>

namespace sketchgrad::apps {

ColumnBatches::ColumnBatches(TokenIds ids, int64_t batch, int64_t bptt, int64_t limit,
                             const std::string& text)
    : ids_(std::move(ids)), batch_(batch), bptt_(bptt) {
  check(batch > 0 && bptt > 0, "{} batch {} and bptt {} must be at least 1", text, batch, bptt);
  const int64_t tokens = limit > 0 ? std::min(limit, ids_.size()) : ids_.size();
  column_ = tokens / batch;
  check(column_ >= 2, "{} {} tokens are too few for {} columns of at least 2", text, tokens, batch);
}

Segment ColumnBatches::segment(int64_t index) const {
  check(index >= 0 && index < segments(), "[batches] segment {} of {}", index, segments());
  const int64_t begin = index * bptt_;
  const int64_t steps = std::min(bptt_, column_ - 1 - begin);
  const auto make = [&](const char* name) {
    return Tensor::empty({steps, batch_}, {Category::data, name}, DType::int32);
  };
  Segment segment{make("batch.inputs"), make("batch.targets")};
  const int32_t* ids = ids_.data();
  int32_t* inputs = segment.inputs.data<int32_t>();
  int32_t* targets = segment.targets.data<int32_t>();
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t b = 0; b < batch_; ++b) {
      const int32_t* place = ids + b * column_ + begin + t;
      inputs[t * batch_ + b] = place[0];
      targets[t * batch_ + b] = place[1];
    }
  }
  return segment;
}

}  // namespace sketchgrad::apps
