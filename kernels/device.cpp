#include "sketchgrad/kernels/device.h"

#include <fmt/format.h>

namespace sketchgrad::kernels::cuda {
namespace {

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

std::string device_problem(int driver_version, int runtime_version, int devices) {
  if (devices > 0) return "";
  if (driver_version == 0) return "[cuda] this machine has no NVIDIA driver; use cpu";
  // Within one major version an older driver does.
  if (driver_version / 1000 < runtime_version / 1000) {
    return fmt::format(
        "[cuda] the NVIDIA driver is for CUDA {}, too old for this build with {}; "
        "update it or use cpu",
        version_text(driver_version), version_text(runtime_version));
  }
  return "[cuda] the NVIDIA driver shows no GPU; see CUDA_VISIBLE_DEVICES, or use cpu";
}

}  // namespace sketchgrad::kernels::cuda
