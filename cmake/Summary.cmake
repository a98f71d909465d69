if(SKETCHGRAD_HAS_CUDA)
  set(cuda "${CMAKE_CUDA_COMPILER_VERSION} for sm_${CMAKE_CUDA_ARCHITECTURES}, cuDNN ${CUDNN_VERSION}")
else()
  set(cuda "no")
endif()
list(JOIN SKETCHGRAD_MARCH_FLAGS " " march)
message(STATUS "sketchgrad ${PROJECT_VERSION} ${CMAKE_BUILD_TYPE}: "
               "CUDA ${cuda}; oneDNN ${OneDNN_VERSION}; TBB ${TBB_VERSION}; ${march}")
