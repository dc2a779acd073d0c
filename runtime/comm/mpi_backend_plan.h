// What the two halves of the MPI backend share: mpi_backend.cc (life, reductions) and mpi_backend_moves.cc (operations
// that only move bytes). Private to them.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/comm/mpi_backend.h"

namespace belay::runtime {

// An operation being put together: which bytes it uses, and what is to be copied back when the user's tensor has gaps.
struct MpiBackend::Plan {
  c10d::OpType type = c10d::OpType::UNKNOWN;
  const char* title = "";
  std::string what;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
  std::function<base::Status(Transfers&)> run;

  std::vector<at::Tensor> keep;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // to the first from the second, afterwards

  // Bytes to read.
  at::Tensor Read(const at::Tensor& tensor) {
    keep.push_back(tensor.detach().contiguous());
    return keep.back();
  }
  // Bytes to write, with the tensor's values in them.
  at::Tensor Write(const at::Tensor& tensor) {
    at::Tensor plain = tensor.detach();
    at::Tensor bytes = plain.contiguous();
    keep.push_back(bytes);
    if (!plain.is_contiguous()) copies.emplace_back(plain, bytes);
    return bytes;
  }
};

namespace backend {

void CheckTensor(const at::Tensor& tensor);
const at::Tensor& OnlyTensor(const std::vector<at::Tensor>& tensors);
// The one list, of `size` tensors.
const std::vector<at::Tensor>& OnlyList(const std::vector<std::vector<at::Tensor>>& lists, int size);
std::string Describe(const at::Tensor& tensor);

// The bytes of rank r of an operation that only moves them.
struct Slot {
  void* data;
  std::size_t bytes;
};

// A contiguous tensor cut into equal slots, one a rank.
std::vector<Slot> Cut(const at::Tensor& bytes, int size);

}  // namespace backend
}  // namespace belay::runtime
