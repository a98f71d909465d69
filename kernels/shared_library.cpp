#include "sketchgrad/kernels/shared_library.h"

#include <dlfcn.h>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::kernels {

namespace {

std::string last_error() {
  const char* const error = dlerror();
  return error != nullptr ? error : "no reason given";
}

}  // namespace

SharedLibrary::SharedLibrary(const std::string& what, const std::vector<std::string>& files)
    : what_(what) {
  std::string reasons;
  for (const std::string& file : files) {
    handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return;
    reasons += (reasons.empty() ? "" : "; ") + last_error();
  }
  throw CudaError("[cuda] " + what + " cannot be loaded: " + reasons);
}

void* SharedLibrary::find(const char* function) const {
  void* const address = dlsym(handle_, function);
  if (address == nullptr) {
    throw CudaError("[cuda] " + what_ + " has no function " + function + ": " + last_error());
  }
  return address;
}

}  // namespace sketchgrad::kernels
