#include "runtime/comm/process_groups.h"

#include <exception>

#include "runtime/base/log.h"
#include "runtime/comm/nccl.h"

namespace belay::runtime {

base::Status ProcessGroups::Shutdown() {
  base::Status ended;
  try {
    if (nccl) nccl->shutdown();
  } catch (const std::exception& error) {
    ended = base::Fail(base::Code::kCommunication, "NCCL does not end in order: ", error.what());
  }
  if (mpi) mpi->shutdown();
  return ended;
}

void ProcessGroups::Abort() {
  try {
    if (nccl) nccl->abort();
  } catch (const std::exception& error) {
    base::LogWarning("NCCL does not end", {{"reason", std::string(error.what())}});
  }
  if (mpi) mpi->abort();
}

ProcessGroups MakeProcessGroups(MpiControl& control, const ProcessGroupOptions& options) {
  using Type = c10d::ProcessGroup::BackendType;
  ProcessGroups groups;
  MpiBackend::Options mpi;
  mpi.timeout = options.timeout;
  mpi.limits = options.limits;
  groups.mpi = MpiBackend::Make(control.communicator(), mpi);
  if (options.device.is_cuda()) {
    auto store = MakeStore(control, options.single_node, options.timeout);
    groups.world = c10::make_intrusive<c10d::ProcessGroup>(store, control.rank(), control.size());
    groups.world->setBoundDeviceId(options.device);
    groups.nccl = MakeNcclBackend(store, control.rank(), control.size(), options.device, options.timeout);
    groups.world->setBackend(c10::DeviceType::CUDA, Type::NCCL, groups.nccl);
    groups.world->setDefaultBackend(Type::NCCL);
  } else {
    groups.world = c10::make_intrusive<c10d::ProcessGroup>(control.rank(), control.size());
    groups.world->setDefaultBackend(Type::MPI);
  }
  groups.world->setBackend(c10::DeviceType::CPU, Type::MPI,
                           c10::static_intrusive_pointer_cast<c10d::Backend>(groups.mpi));
  groups.world->setGroupName("belay");
  return groups;
}

}  // namespace belay::runtime
