#include "sketchgrad/kernels/heavy_rows_impl.h"

namespace sketchgrad::kernels::cpu {

void set_keys(const Exec&, const SetElement& element, int64_t rows) {
  for_each(TbbPolicy{}, rows, element);
}

void claim_slots(const Exec&, const ClaimOfSet& claim) {
  for_each(TbbPolicy{}, claim.groups.count, claim);
}

void move_to_slots(const Exec&, const MoveToSlot& move, int64_t units) {
  for_each(TbbPolicy{}, units, move);
}

}  // namespace sketchgrad::kernels::cpu
