#pragma once

#include <cstdint>

#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

// Cross-entropy with several labels a token, over chunks of logits z [tokens, classes] that hold
// all classes. The labels of a token are its row of a sparse matrix [tokens, classes], whose values
// are their weights w. With
//   A(z) = log(sum of exp(z))        for a softmax, where the weights of a token add up to 1, or
//   A(z) = sum of log(1 + exp(z))    for a sigmoid a class, where weights are 1,
// the loss is A(z) - sum over labels of w z, and its gradient A'(z) - w. A of a softmax is that of
// softmax.h.
namespace sketchgrad::kernels {

// sums[t] = sum over the labels of token t of w (z + bias).
// Shapes: bias [classes] or null, labels [tokens, classes], sums [tokens].
void take_label_logits(const Exec&, ConstMatrix logits, const float* bias, const CsrMatrix& labels,
                       float* sums);

// gradient(t, label) -= scale * w, for each label.
void subtract_labels(const Exec&, const CsrMatrix& labels, float scale, Matrix gradient);

// In place: logits -> scale * sigmoid(z + bias); sums[t] = sum of log(1 + exp(z + bias)), in an
// order that the number of classes alone decides.
// Shapes: bias [classes] or null, sums [tokens].
void sigmoid_cross_entropy(const Exec&, Matrix logits, const float* bias, float scale, float* sums);

}  // namespace sketchgrad::kernels
