#pragma once

#include <cudnn.h>

#include <string>

#include "sketchgrad/kernels/cublas.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/shared_library.h"

namespace sketchgrad::kernels {

// The functions of cuDNN that we use, loaded at the first LSTM layer.
struct Cudnn {
  SharedLibrary library{"cuDNN",
                        {"libcudnn.so." + std::to_string(CUDNN_MAJOR), SKETCHGRAD_CUDNN_LIBRARY}};
  SG_LIBRARY_FUNCTION(cudnnCreate);
  SG_LIBRARY_FUNCTION(cudnnSetStream);
  SG_LIBRARY_FUNCTION(cudnnGetErrorString);
  SG_LIBRARY_FUNCTION(cudnnCreateRNNDescriptor);
  SG_LIBRARY_FUNCTION(cudnnDestroyRNNDescriptor);
  SG_LIBRARY_FUNCTION(cudnnSetRNNDescriptor_v8);
  SG_LIBRARY_FUNCTION(cudnnCreateDropoutDescriptor);
  SG_LIBRARY_FUNCTION(cudnnDestroyDropoutDescriptor);
  SG_LIBRARY_FUNCTION(cudnnSetDropoutDescriptor);
  SG_LIBRARY_FUNCTION(cudnnCreateRNNDataDescriptor);
  SG_LIBRARY_FUNCTION(cudnnDestroyRNNDataDescriptor);
  SG_LIBRARY_FUNCTION(cudnnSetRNNDataDescriptor);
  SG_LIBRARY_FUNCTION(cudnnCreateTensorDescriptor);
  SG_LIBRARY_FUNCTION(cudnnDestroyTensorDescriptor);
  SG_LIBRARY_FUNCTION(cudnnSetTensorNdDescriptor);
  SG_LIBRARY_FUNCTION(cudnnGetRNNWeightSpaceSize);
  SG_LIBRARY_FUNCTION(cudnnGetRNNTempSpaceSizes);
  SG_LIBRARY_FUNCTION(cudnnGetRNNWeightParams);
  SG_LIBRARY_FUNCTION(cudnnRNNForward);
  SG_LIBRARY_FUNCTION(cudnnRNNBackwardData_v8);
  SG_LIBRARY_FUNCTION(cudnnRNNBackwardWeights_v8);
};

// Never destroyed, because the driver may be gone before a static is.
inline const Cudnn& cudnn() {
  static const Cudnn& loaded = []() -> const Cudnn& {
    cublas();  // cuDNN asks for parts of it by name, and finds those that are loaded
    return *new Cudnn;
  }();
  return loaded;
}

inline void check_cudnn(cudnnStatus_t status, const char* expression) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw CudaError(std::string("[cudnn] ") + expression +
                  " failed: " + cudnn().cudnnGetErrorString(status));
}

}  // namespace sketchgrad::kernels

// Every call into cuDNN goes through this.
#define SG_CUDNN_CHECK(expression) \
  ::sketchgrad::kernels::check_cudnn(::sketchgrad::kernels::cudnn().expression, #expression)
