# What `cmake --install` puts where, and what find_package(belay) finds there.
#
# A training program links one shared library, libbelay.so, which carries the whole runtime and exports only what
# include/belay declares. Protobuf and everything else inside stay inside: libtorch brings an old protobuf of its own.
#
#   bin/                 belay, belayd, belay-rank
#   include/belay/       the public headers
#   lib/libbelay.so      belay::runtime
#   lib/cmake/belay/     belayConfig.cmake
include(CMakePackageConfigHelpers)

foreach(program IN ITEMS belay belayd belay-rank)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT belay)
  endif()
endforeach()

if(TARGET belay_runtime)
  add_library(belay_shared SHARED ${PROJECT_SOURCE_DIR}/cmake/libbelay.cc)
  # Whole: nothing inside the library refers to the classes that users call.
  target_link_libraries(belay_shared PRIVATE
    "-Wl,--whole-archive,$<TARGET_FILE:belay_runtime>,$<TARGET_FILE:belay_training>,--no-whole-archive"
    belay_runtime belay_training)
  set_target_properties(belay_shared PROPERTIES
    OUTPUT_NAME belay
    EXPORT_NAME runtime
    VERSION ${PROJECT_VERSION}
    # Before 1.0 every minor version may change the interface.
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/libbelay.map
    INSTALL_RPATH "${torch_dir}/lib;${CUDAToolkit_LIBRARY_DIR}")
  target_link_options(belay_shared PRIVATE
    LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/libbelay.map LINKER:--no-undefined)
  target_include_directories(belay_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(belay_shared INTERFACE cxx_std_20)

  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/belay)
  install(TARGETS belay_shared EXPORT belayTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT belay)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/belay DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT belay
    FILES_MATCHING PATTERN "*.h")
  install(EXPORT belayTargets NAMESPACE belay:: DESTINATION ${package_dir} COMPONENT belay)
  set(BELAY_BUILT_WITH_TORCH_DIR ${torch_dir})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/belayConfig.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/belayConfig.cmake INSTALL_DESTINATION ${package_dir})
  write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/belayConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/belayConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/belayConfigVersion.cmake
    DESTINATION ${package_dir} COMPONENT belay)
endif()
