#pragma once

// SG_HD marks the functions of *_rules.h that both compilers build: for the host by g++ and, in
// .cu files, for host and device by nvcc. These headers include nothing that nvcc 13 rejects (fmt).
#if defined(__CUDACC__)
#define SG_HD __host__ __device__ __forceinline__
#else
#define SG_HD inline
#endif
