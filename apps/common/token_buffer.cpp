#include "sketchgrad/apps/common/token_buffer.h"

#include <algorithm>
#include <utility>

namespace sketchgrad::apps {

namespace {

constexpr int64_t kPieceTokens = int64_t{1} << 18;

}  // namespace

void TokenBuffer::push(int32_t id) {
  if (pieces_.empty() || used_ == kPieceTokens) {
    pieces_.push_back(Tensor::empty({kPieceTokens}, {Category::data, "tokens"}, DType::int32));
    piece_ = pieces_.back().data<int32_t>();
    used_ = 0;
  }
  piece_[used_++] = id;
}

int64_t TokenBuffer::size() const {
  return pieces_.empty() ? 0 : static_cast<int64_t>(pieces_.size() - 1) * kPieceTokens + used_;
}

Tensor TokenBuffer::finish(const std::string& name, const std::vector<int32_t>& rename) {
  const Tensor all = Tensor::empty({size()}, {Category::data, name}, DType::int32);
  int32_t* out = all.data<int32_t>();
  for (Tensor& piece : pieces_) {
    const int64_t count = &piece == &pieces_.back() ? used_ : kPieceTokens;
    const int32_t* in = piece.data<int32_t>();
    out = rename.empty() ? std::copy_n(in, count, out)
                         : std::transform(in, in + count, out, [&](int32_t id) {
                             return rename[static_cast<size_t>(id)];
                           });
    piece = Tensor();
  }
  *this = TokenBuffer();
  // Later requests have other sizes: kept pieces would only add to the resident memory.
  allocator().release_cached();
  return all;
}

}  // namespace sketchgrad::apps
