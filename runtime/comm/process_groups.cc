#include "runtime/comm/process_groups.h"

#include "runtime/comm/nccl.h"

namespace belay::runtime {

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
    groups.world->setBackend(c10::DeviceType::CUDA, Type::NCCL,
                             MakeNcclBackend(store, control.rank(), control.size(), options.device, options.timeout));
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
