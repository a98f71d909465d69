#pragma once

#include <vector>

#include "sketchgrad/framework/row_sparse.h"

namespace sketchgrad {

// a + b for gradients that are adopted: into the storage of one that nobody else shares, otherwise
// into a new tensor.
Tensor sum_of_gradients(Tensor a, Tensor b);

// Gradient of one parameter: none, dense, or row-sparse. Row-sparse parts are kept as they arrive
// and coalesced once, on first reading; adding a dense part makes the whole dense.
class Gradient {
 public:
  enum class Kind : uint8_t { none, dense, row_sparse };

  Kind kind() const;
  bool empty() const { return kind() == Kind::none; }

  // Takes part in the sum. A dense part may be adopted: the caller must not write to it afterwards.
  // Throws InvalidArgument for a part that is said to be coalesced and is not.
  void add(Tensor dense);
  void add(RowSparse rows);
  void clear();

  const Tensor& dense() const;
  // Coalesces what is not yet coalesced.
  const RowSparse& rows();
  // Values as one matrix, whichever kind: [rows or K, D]. Coalesces. Undefined tensor for none.
  // Only to be read: another gradient may share the storage.
  Tensor values();
  // Multiplies by `factor`, in place where nobody else shares the storage.
  void scale(float factor);
  // The same by a factor that lies on the gradient's device.
  void scale_by(const float* factor);

 private:
  // The tensor of all values, for writing; undefined for none.
  Tensor writable_values();

  Tensor dense_;
  std::vector<RowSparse> parts_;
};

}  // namespace sketchgrad
