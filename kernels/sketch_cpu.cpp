#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels::cpu {

void sketch_slots(const Exec&, const SlotElement& element, int64_t rows) {
  for_each(TbbPolicy{}, rows, element);
}

}  // namespace sketchgrad::kernels::cpu
