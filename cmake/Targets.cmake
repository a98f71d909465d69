# Own headers are spelled "sketchgrad/<folder>/x.h" in the tree as after install. A folder of links
# in the build directory gives the tree that shape.
set(SKETCHGRAD_INCLUDE_TREE "${PROJECT_BINARY_DIR}/include")
file(MAKE_DIRECTORY "${SKETCHGRAD_INCLUDE_TREE}/sketchgrad")
foreach(folder IN ITEMS kernels framework layers optim apps tools tests)
  file(CREATE_LINK "${PROJECT_SOURCE_DIR}/${folder}" "${SKETCHGRAD_INCLUDE_TREE}/sketchgrad/${folder}"
       SYMBOLIC)
endforeach()

# sketchgrad_glob(variable expression...): source files relative to the current folder, watched by
# the build. Files for CUDA (*.cu, *_cuda.cpp) are left out of a build without CUDA, and no_cuda.cpp,
# which stands in for them, is left out of a build with it.
function(sketchgrad_glob variable)
  list(TRANSFORM ARGN PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  file(GLOB sources CONFIGURE_DEPENDS ${ARGN})
  set(stand_ins ${sources})
  list(FILTER stand_ins INCLUDE REGEX "/no_cuda\\.cpp$")
  if(SKETCHGRAD_HAS_CUDA)
    list(FILTER sources EXCLUDE REGEX "/no_cuda\\.cpp$")
  else()
    list(FILTER sources EXCLUDE REGEX "(\\.cu|_cuda\\.cpp)$")
    list(APPEND sources ${stand_ins})
  endif()
  set(${variable} ${sources} PARENT_SCOPE)
endfunction()

# sketchgrad_add_library(folder): static library sketchgrad_<folder>, alias sketchgrad::<folder>,
# of the current folder's sources. Link it to what it needs afterwards.
function(sketchgrad_add_library folder)
  sketchgrad_glob(sources *.cpp *.cu)
  if(NOT sources)
    # An archive needs a member, and a folder may hold headers only.
    set(sources "${CMAKE_CURRENT_BINARY_DIR}/empty.cpp")
    file(CONFIGURE OUTPUT "${sources}" CONTENT "")
  endif()
  set(target sketchgrad_${folder})
  add_library(${target} STATIC ${sources})
  add_library(sketchgrad::${folder} ALIAS ${target})
  sketchgrad_compile_options(${target})
  target_compile_features(${target} INTERFACE cxx_std_20)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${SKETCHGRAD_INCLUDE_TREE}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${folder})
  install(TARGETS ${target} EXPORT sketchgradTargets)
  install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/"
          DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/sketchgrad/${folder}"
          FILES_MATCHING PATTERN "*.h")
endfunction()

# sketchgrad::sketchgrad: all libraries at once.
function(sketchgrad_add_umbrella)
  add_library(sketchgrad INTERFACE)
  add_library(sketchgrad::sketchgrad ALIAS sketchgrad)
  list(TRANSFORM ARGN PREPEND sketchgrad_)
  target_link_libraries(sketchgrad INTERFACE ${ARGN})
  install(TARGETS sketchgrad EXPORT sketchgradTargets)
endfunction()

# sketchgrad_add_program(name sources...): a program at <build>/<current folder>/<name>. Folders of
# programs have no CMakeLists.txt of their own, so that no binary folder takes the program's path.
function(sketchgrad_add_program name)
  add_executable(${name} ${ARGN})
  sketchgrad_compile_options(${name})
  target_link_libraries(${name} PRIVATE sketchgrad::sketchgrad CLI11::CLI11 fmt::fmt
                                        nlohmann_json::nlohmann_json)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
endfunction()
