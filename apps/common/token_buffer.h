#pragma once

#include <vector>

#include "sketchgrad/framework/tensor.h"

namespace sketchgrad::apps {

// Collects ids of a number that is not known before, in memory that the allocator counts.
class TokenBuffer {
 public:
  void push(int32_t id);
  int64_t size() const;
  // All ids as one int32 [size] of category data; the buffer is empty afterwards. `rename`, if not
  // empty, gives each id's new value.
  Tensor finish(const std::string& name, const std::vector<int32_t>& rename = {});

 private:
  std::vector<Tensor> pieces_;
  int32_t* piece_ = nullptr;  // data of the last one
  int64_t used_ = 0;          // of the last one
};

}  // namespace sketchgrad::apps
