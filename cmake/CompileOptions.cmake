# sketchgrad_compile_options(target): the flags of this project, PRIVATE, so that nobody who links
# the libraries inherits them.
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

set(SKETCHGRAD_MARCH_FLAGS "")
if(SKETCHGRAD_MARCH)
  # The results are cached under the CPU's name, so that another SKETCHGRAD_MARCH is checked anew.
  string(MAKE_C_IDENTIFIER "${SKETCHGRAD_MARCH}" march_id)
  check_cxx_compiler_flag("-march=${SKETCHGRAD_MARCH}" SKETCHGRAD_MARCH_OK_${march_id})
  if(NOT SKETCHGRAD_MARCH_OK_${march_id})
    message(FATAL_ERROR "SKETCHGRAD_MARCH=${SKETCHGRAD_MARCH} is unknown to ${CMAKE_CXX_COMPILER}")
  endif()
  list(APPEND SKETCHGRAD_MARCH_FLAGS "-march=${SKETCHGRAD_MARCH}")

  set(CMAKE_REQUIRED_FLAGS "-march=${SKETCHGRAD_MARCH}")
  check_cxx_source_compiles("
    #ifndef __AVX512F__
    #error no AVX-512
    #endif
    int main() {}" SKETCHGRAD_AVX512_${march_id})
  unset(CMAKE_REQUIRED_FLAGS)
  if(SKETCHGRAD_AVX512_${march_id})
    # Compilers prefer 256 bits for the sake of old clock drops; these loops are all vector work.
    check_cxx_compiler_flag(-mprefer-vector-width=512 SKETCHGRAD_VECTOR_WIDTH_OK)
    if(SKETCHGRAD_VECTOR_WIDTH_OK)
      list(APPEND SKETCHGRAD_MARCH_FLAGS -mprefer-vector-width=512)
    endif()
  endif()
endif()

# Not -ffast-math: results must not depend on how a loop happens to be cut.
# The CUDA host pass gets the same flags, or the linker could keep its slower copy of an inline
# function for the CPU code too.
set(SKETCHGRAD_HOST_FLAGS -fno-math-errno -fno-trapping-math -fopenmp-simd
                          ${SKETCHGRAD_MARCH_FLAGS})
if(SKETCHGRAD_SANITIZE)
  list(APPEND SKETCHGRAD_HOST_FLAGS "-fsanitize=${SKETCHGRAD_SANITIZE}" -fno-sanitize-recover=all
       -fno-omit-frame-pointer)
  add_link_options("-fsanitize=${SKETCHGRAD_SANITIZE}")
endif()
# Vectors of lanes (kernels/lanes.h) pass between functions of one build alone, so that their calling
# convention, which differs with and without AVX-512, is nobody else's.
set(SKETCHGRAD_WARNINGS -Wall -Wextra -Wno-psabi)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 takes a plain "text" + string for overlapping memory (GCC bug 105651).
  list(APPEND SKETCHGRAD_WARNINGS -Wno-restrict)
endif()
list(JOIN SKETCHGRAD_HOST_FLAGS "," SKETCHGRAD_CUDA_HOST_FLAGS)
list(JOIN SKETCHGRAD_WARNINGS "," SKETCHGRAD_CUDA_HOST_WARNINGS)

function(sketchgrad_compile_options target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  # CMake 3.25 silently drops CUDA_STANDARD 20, hence -std by hand.
  # -Wpedantic and -Wshadow are for g++ alone: nvcc's generated host code is full of both.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${SKETCHGRAD_HOST_FLAGS}>
    $<$<COMPILE_LANGUAGE:CXX>:${SKETCHGRAD_WARNINGS};-Wpedantic;-Wshadow>
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--extended-lambda;--expt-relaxed-constexpr>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${SKETCHGRAD_CUDA_HOST_FLAGS}>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${SKETCHGRAD_CUDA_HOST_WARNINGS}>)
  if(SKETCHGRAD_WERROR)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-Werror>
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>
      $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Werror>)
  endif()
endfunction()
