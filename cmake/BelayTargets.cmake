# One target a folder:   belay_library(name SOURCES a.cc ... LINK x y ...)
#
# Our headers are included by their path from the top of the tree ("runtime/base/result.h"). Warnings and sanitizers are
# interface targets linked privately.
add_library(belay_warnings INTERFACE)
target_compile_options(belay_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wnon-virtual-dtor;-Wunused;-Woverloaded-virtual;-Wno-missing-field-initializers>)
add_library(belay_sanitizers INTERFACE)
if(BELAY_SANITIZE)
  target_compile_options(belay_sanitizers INTERFACE -fsanitize=${BELAY_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(belay_sanitizers INTERFACE -fsanitize=${BELAY_SANITIZE})
endif()
if(BELAY_FUZZ)  # so that the fuzzers see which branches an input reaches
  target_compile_options(belay_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(belay_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(belay_target_defaults target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:belay_warnings> $<BUILD_INTERFACE:belay_sanitizers>)
endfunction()

function(belay_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(belay_${name} STATIC ${ARG_SOURCES})
  add_library(belay::${name} ALIAS belay_${name})
  belay_target_defaults(belay_${name})
  target_include_directories(belay_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(belay_${name} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
endfunction()

function(belay_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  belay_target_defaults(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# A GoogleTest program of several test sources:  belay_test(base_test LABELS unit SOURCES ... LINK ...)
# Every test in it becomes a CTest test with these labels.
function(belay_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)  # sanitized on a busy machine, too
  endif()
  add_executable(${name} ${ARG_SOURCES})
  belay_target_defaults(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  # One CTest entry a program: starting each case alone would cost more than running it.
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
