// Small messages between all ranks for the control plane: its own communicator, so that nothing mixes with gradients.
//
// Collective: every rank calls alike, from its training thread. Errors: kCommunication.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/comm/mpi_c.h"

#include "runtime/base/result.h"

namespace belay::runtime {

class MpiControl {
 public:
  static base::Result<std::unique_ptr<MpiControl>> Make(MPI_Comm from);
  ~MpiControl();
  MpiControl(const MpiControl&) = delete;
  MpiControl& operator=(const MpiControl&) = delete;

  MPI_Comm communicator() const { return communicator_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  base::Status Broadcast(std::string* bytes, int root);
  base::Result<std::vector<std::string>> AllGather(std::string_view bytes);
  enum class Extreme { kMin, kMax };
  base::Result<std::int64_t> AllReduce(std::int64_t value, Extreme extreme);
  base::Status Barrier();

 private:
  explicit MpiControl(MPI_Comm communicator);
  base::Status Wait(int error, MPI_Request request, std::string_view what) const;

  MPI_Comm communicator_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace belay::runtime
