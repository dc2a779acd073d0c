// Makes libtorch choose algorithms that give the same bits every time.
//
// On the CPU they do as long as the number of threads stays, which belay sees to. On a GPU some kernels add in the
// order in which threads happen to finish; this asks for the ordered ones and warns where there are none. cuBLAS also
// wants CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment.
#pragma once

#include <cstdlib>

#include <torch/torch.h>

namespace examples {

inline void PreferDeterministicKernels(const torch::Device& device) {
  if (!device.is_cuda()) return;
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
}

}  // namespace examples
