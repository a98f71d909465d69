# oneDNN 2.x or 3.x by header and library. Its own package is passed over on purpose: the one that
# distributions ship demands OpenCL, which libdnnl-dev does not bring along.
# Defines OneDNN::dnnl.
find_path(OneDNN_INCLUDE_DIR dnnl.h PATH_SUFFIXES oneapi/dnnl)
find_library(OneDNN_LIBRARY dnnl)
if(OneDNN_INCLUDE_DIR)
  # dnnl.h may only forward to oneapi/dnnl/, and the version header has moved between releases.
  foreach(_onednn_header IN ITEMS oneapi/dnnl/dnnl_version.h dnnl_version.h)
    if(EXISTS "${OneDNN_INCLUDE_DIR}/${_onednn_header}" AND NOT OneDNN_VERSION)
      file(STRINGS "${OneDNN_INCLUDE_DIR}/${_onednn_header}" _onednn_lines
           REGEX "^#define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
      list(TRANSFORM _onednn_lines REPLACE "^#define DNNL_VERSION_[A-Z]+ +" "")
      list(JOIN _onednn_lines "." OneDNN_VERSION)
    endif()
  endforeach()
  unset(_onednn_header)
  unset(_onednn_lines)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR
                                  VERSION_VAR OneDNN_VERSION)
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)

if(OneDNN_FOUND AND NOT TARGET OneDNN::dnnl)
  add_library(OneDNN::dnnl UNKNOWN IMPORTED)
  set_target_properties(OneDNN::dnnl PROPERTIES
    IMPORTED_LOCATION "${OneDNN_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${OneDNN_INCLUDE_DIR}")
endif()
