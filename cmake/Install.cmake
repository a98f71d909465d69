# The CMake package: find_package(sketchgrad) and sketchgrad::sketchgrad.
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/sketchgrad")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/sketchgradConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/sketchgradConfig.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/sketchgradConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(EXPORT sketchgradTargets NAMESPACE sketchgrad:: DESTINATION "${package_dir}")
install(FILES "${PROJECT_BINARY_DIR}/sketchgradConfig.cmake"
              "${PROJECT_BINARY_DIR}/sketchgradConfigVersion.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/FindOneDNN.cmake"
              "${PROJECT_SOURCE_DIR}/cmake/FindCUDNN.cmake"
        DESTINATION "${package_dir}")
