#pragma once

#include <cstddef>
#include <vector>

#include "sketchgrad/kernels/lstm_layer.h"

namespace sketchgrad::kernels {

// The CUDA bodies behind lstm_layer.h. Requires what lstm_layer.cpp has checked.
namespace cuda {
int64_t lstm_layer_reserve_bytes(const Exec&, const LstmLayerShape&);
void lstm_layer_forward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                        const float* x, const float* h, const float* c, float* y, float* h_next,
                        float* c_next, void* reserve);
void lstm_layer_backward(const Exec&, const LstmLayerShape&, const LstmLayerArrays<const float>&,
                         const float* x, const float* h, const float* c, const float* y,
                         const float* grad_y, void* reserve, float* grad_x,
                         const LstmLayerArrays<float>& gradients);
}  // namespace cuda

// Where parts of our arrays lie in an array that a library lays out as it likes.
struct ArrayPart {
  float* ours = nullptr;
  float* theirs = nullptr;
  int64_t count = 0;
};

// Parts that follow each other on both sides become one: fewer copies.
inline std::vector<ArrayPart> join_parts(const std::vector<ArrayPart>& parts) {
  std::vector<ArrayPart> joined;
  for (const ArrayPart& part : parts) {
    if (part.count == 0) continue;
    if (!joined.empty() && joined.back().ours + joined.back().count == part.ours &&
        joined.back().theirs + joined.back().count == part.theirs) {
      joined.back().count += part.count;
    } else {
      joined.push_back(part);
    }
  }
  return joined;
}

// The parts in the order of cuDNN's linear layers: 0 to 3 input weights and biases of i, f, g, o, 4
// to 7 the recurrent ones, 8 the projection. place(layer) gives the library's addresses of weight
// and bias.
template <class Place>
std::vector<ArrayPart> lstm_layer_parts(const LstmLayerShape& shape,
                                        const LstmLayerArrays<float>& arrays, const Place& place) {
  std::vector<ArrayPart> weights, biases;
  for (int layer = 0; layer < 8; ++layer) {
    const bool recurrent = layer >= 4;
    const int64_t gate = layer % 4;
    const int64_t columns = recurrent ? shape.output() : shape.input;
    const auto [weight, bias] = place(layer);
    weights.push_back(
        {(recurrent ? arrays.weight_hh : arrays.weight_ih) + gate * shape.hidden * columns, weight,
         shape.hidden * columns});
    biases.push_back(
        {(recurrent ? arrays.bias_hh : arrays.bias_ih) + gate * shape.hidden, bias, shape.hidden});
  }
  if (shape.projection > 0) {
    weights.push_back({arrays.weight_hr, place(8).first, shape.projection * shape.hidden});
  }
  weights.insert(weights.end(), biases.begin(), biases.end());
  return join_parts(weights);
}

}  // namespace sketchgrad::kernels
