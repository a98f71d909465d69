// A program outside the project: it sees the installed headers and libraries only.
#include <cstdio>

#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/exec.h"
#include "sketchgrad/kernels/views.h"

int main() {
  float values[6] = {0, 1, 2, 3, 4, 5};
  const sketchgrad::kernels::Matrix matrix = sketchgrad::kernels::contiguous(values, 2, 3);
  if (matrix(1, 2) != 5.0f) return 1;
  std::printf("consumer: ok\n");
}
