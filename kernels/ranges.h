#pragma once

namespace sketchgrad::kernels::cuda {

// What this thread is doing, for the vendor's profilers (NVTX): they show ranges by these names
// around the launches within. Ranges nest, and end in the reverse order. Without a profiler, and in
// a build without CUDA, nothing happens.
void push_range(const char* name) noexcept;
void pop_range() noexcept;

}  // namespace sketchgrad::kernels::cuda
