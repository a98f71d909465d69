#include "sketchgrad/kernels/sketch_impl.h"

namespace sketchgrad::kernels::cpu {

void sketch_slots(const Exec&, const SlotElement& element, int64_t rows) {
  for_each(TbbPolicy{}, rows, element);
}

void sketch_estimate(const Exec&, SketchView sketch, const SketchPlan& plan, Combine combine,
                     bool with_signs, float scale, Matrix estimate) {
  sketch_estimate_impl(TbbPolicy{}, sketch, plan, combine, with_signs, scale, estimate);
}

void sketch_estimate_trusted(const Exec&, SketchView sketch, const SketchPlan& plan,
                             const TrustRule& rule, Matrix estimate, float* decay, float* scale) {
  sketch_estimate_trusted_impl(TbbPolicy{}, sketch, plan, rule, estimate, decay, scale);
}

void row_scale_coefficients(const Exec&, const RowScaleElement& element, int64_t count) {
  for_each(TbbPolicy{}, count, element);
}

void sketch_write(const Exec&, SketchView sketch, const SketchPlan& plan, bool with_signs,
                  const SketchWrite& write, ConstMatrix estimate, ConstMatrix gradient) {
  sketch_write_impl(TbbPolicy{}, sketch, plan, with_signs, write, estimate, gradient);
}

}  // namespace sketchgrad::kernels::cpu
