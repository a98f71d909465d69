#pragma once

#include <string>
#include <vector>

namespace sketchgrad::kernels {

// A shared library that is loaded when it is first wanted. cuBLAS and cuDNN are, so that programs
// start without them, and so that training on the CPU does not carry the 200 MiB that loading them
// makes resident. Never unloaded.
class SharedLibrary {
 public:
  // The first of `files` that the loader finds. Throws CudaError naming `what` it is and why it
  // cannot be loaded.
  SharedLibrary(const std::string& what, const std::vector<std::string>& files);
  // Throws CudaError where there is no such function.
  void* find(const char* function) const;

 private:
  std::string what_;
  void* handle_ = nullptr;
};

}  // namespace sketchgrad::kernels

// In a struct with a member `library`: a function of it, under its own name and type.
#define SG_LIBRARY_FUNCTION(name) \
  decltype(&::name) name = reinterpret_cast<decltype(&::name)>(library.find(#name))
