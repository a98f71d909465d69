#include "sketchgrad/framework/grad_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sketchgrad {
namespace {

// The gradient as a dense array, whichever its kind.
std::vector<float> dense_gradient(Parameter& parameter) {
  std::vector<float> result(static_cast<size_t>(parameter.value.numel()), 0.0f);
  if (parameter.gradient.kind() == Gradient::Kind::dense) {
    return parameter.gradient.dense().to_vector<float>();
  }
  if (parameter.gradient.kind() == Gradient::Kind::row_sparse) {
    const RowSparse& rows = parameter.gradient.rows();
    const std::vector<int32_t> ids = rows.ids.to_vector<int32_t>();
    const std::vector<float> values = rows.values.to_vector<float>();
    const auto cols = static_cast<size_t>(rows.values.size(1));
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0) continue;  // padding, on CUDA
      std::copy_n(values.begin() + static_cast<ptrdiff_t>(i * cols), cols,
                  result.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(ids[i]) * cols));
    }
  }
  return result;
}

// One element of a parameter; holds its old value again at the end of the scope.
class Probe {
 public:
  Probe(const Parameter& parameter, int64_t index)
      : element_(parameter.value.reshape({-1}).rows(index, 1)), before_(element_.item()) {}
  ~Probe() { element_.fill(before_); }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  float before() const { return before_; }
  void set(float value) const { element_.fill(value); }

 private:
  Tensor element_;
  float before_;
};

double central_difference(const std::function<Variable(Tape&)>& loss, const Parameter& parameter,
                          int64_t index, double step) {
  const auto evaluate = [&] {
    Tape tape(/*recording=*/false);
    return static_cast<double>(loss(tape).value.item());
  };
  const Probe probe(parameter, index);
  const auto above = static_cast<float>(probe.before() + step);
  const auto below = static_cast<float>(probe.before() - step);
  probe.set(above);
  const double loss_above = evaluate();
  probe.set(below);
  const double loss_below = evaluate();
  return (loss_above - loss_below) / (static_cast<double>(above) - static_cast<double>(below));
}

double relative_difference(double analytic, double numeric) {
  const double difference = std::abs(analytic - numeric);
  // A NaN on either side must fail, not compare as small.
  if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
  return difference / std::max({1.0, std::abs(analytic), std::abs(numeric)});
}

}  // namespace

GradCheckResult grad_check(const std::function<Variable(Tape&)>& loss,
                           const std::vector<Parameter*>& parameters, GradCheckOptions options) {
  for (Parameter* parameter : parameters) parameter->gradient.clear();
  {
    Tape tape;
    tape.backward(loss(tape));
  }
  GradCheckResult result;
  for (Parameter* parameter : parameters) {
    const std::vector<float> analytic = dense_gradient(*parameter);
    parameter->gradient.clear();
    const int64_t count = parameter->value.numel();
    const int64_t probes = std::min(count, options.max_elements);
    for (int64_t i = 0; i < probes; ++i) {
      // Evenly spread, and shifted: a stride that divides the row length would stay in one column.
      const int64_t index = i * count / probes + i % (count / probes);
      const double expected = central_difference(loss, *parameter, index, options.step);
      const double found = analytic[static_cast<size_t>(index)];
      const double difference = relative_difference(found, expected);
      if (difference <= result.worst && !result.where.empty()) continue;
      result.worst = difference;
      result.where =
          fmt::format("{}[{}]: analytic {}, numeric {}", parameter->name, index, found, expected);
    }
  }
  result.passed = result.worst <= options.tolerance;
  return result;
}

}  // namespace sketchgrad
