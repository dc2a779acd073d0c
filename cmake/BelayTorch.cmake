# belay_torch: libtorch from the pinned wheel that scripts/bootstrap unpacked.
#
# Not the wheel's own TorchConfig.cmake: it wants every CUDA component of the machine that built it. The wheel's include
# folder carries an old protobuf and fmt, so only targets that need torch may link this, and none of those may use ours.
set(BELAY_TORCH_DIR "" CACHE PATH "The wheel's torch folder; found below BELAY_DEPS_DIR if empty")
if(NOT BELAY_TORCH_DIR)
  file(GLOB found "${BELAY_DEPS_DIR}/venv/lib/python3*/site-packages/torch")
  if(NOT found)
    message(FATAL_ERROR "libtorch is missing: run scripts/bootstrap (looked below ${BELAY_DEPS_DIR})")
  endif()
  list(GET found 0 torch_dir)
else()
  set(torch_dir ${BELAY_TORCH_DIR})
endif()
get_filename_component(site_packages ${torch_dir} DIRECTORY)

add_library(belay_torch INTERFACE)
add_library(belay::torch ALIAS belay_torch)
target_include_directories(belay_torch SYSTEM INTERFACE
  $<BUILD_INTERFACE:${torch_dir}/include> $<BUILD_INTERFACE:${torch_dir}/include/torch/csrc/api/include>)
target_compile_definitions(belay_torch INTERFACE USE_DISTRIBUTED USE_C10D_NCCL USE_CUDA)
target_include_directories(belay_torch SYSTEM INTERFACE $<BUILD_INTERFACE:${CUDAToolkit_INCLUDE_DIRS}>)
# The NVIDIA libraries of the wheel that the toolkit lacks lie beside torch; its RPATH finds them when it runs.
set(torch_link_dirs
  ${torch_dir}/lib ${site_packages}/nvidia/cusparselt/lib ${site_packages}/nvidia/nvshmem/lib
  ${site_packages}/nvidia/cu13/lib ${CUDAToolkit_LIBRARY_DIR})
foreach(dir IN LISTS torch_link_dirs)
  target_link_options(belay_torch INTERFACE $<BUILD_INTERFACE:LINKER:-rpath-link,${dir}>)
endforeach()
target_link_options(belay_torch INTERFACE $<BUILD_INTERFACE:LINKER:-rpath,${torch_dir}/lib>
  $<BUILD_INTERFACE:LINKER:-rpath,${CUDAToolkit_LIBRARY_DIR}>)
target_link_libraries(belay_torch INTERFACE
  # libtorch_cuda registers the GPU kernels by its mere presence, so it must not be dropped as unused.
  $<BUILD_INTERFACE:-Wl,--push-state,--no-as-needed>
  $<BUILD_INTERFACE:${torch_dir}/lib/libtorch.so> $<BUILD_INTERFACE:${torch_dir}/lib/libtorch_cpu.so>
  $<BUILD_INTERFACE:${torch_dir}/lib/libtorch_cuda.so> $<BUILD_INTERFACE:${torch_dir}/lib/libc10.so>
  $<BUILD_INTERFACE:${torch_dir}/lib/libc10_cuda.so>
  $<BUILD_INTERFACE:-Wl,--pop-state>)
set(BELAY_TORCH_SITE_PACKAGES ${site_packages})
