#include "runtime/comm/nccl.h"

#include <exception>
#include <string>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "runtime/base/environment.h"

namespace belay::runtime {

c10::intrusive_ptr<c10d::Store> MakeStore(MpiControl& control, bool single_node, std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.numWorkers = control.size();
  options.waitWorkers = false;  // the broadcast below is wait enough
  options.timeout = timeout;
  c10::intrusive_ptr<c10d::TCPStore> store;
  std::string address;  // "port host", as rank 0 says
  std::exception_ptr failure;
  if (control.rank() == 0) {
    try {
      // MASTER_ADDR is a name of rank 0's node that the others can reach; its port is the program's to use.
      const std::string host =
          single_node ? "127.0.0.1" : base::GetEnvironment("MASTER_ADDR").value_or(base::HostName());
      options.isServer = true;
      options.port = 0;
      store = c10::make_intrusive<c10d::TCPStore>(host, options);
      address = c10::str(store->getPort(), " ", host);
    } catch (...) {
      failure = std::current_exception();  // thrown only after the others were told
    }
  }
  auto told = control.Broadcast(&address, 0);
  if (failure) std::rethrow_exception(failure);
  TORCH_CHECK(told, told.error().Text());
  TORCH_CHECK(!address.empty(), "rank 0 could not open the store that NCCL needs");
  if (store) return store;
  std::size_t digits = 0;
  options.port = static_cast<std::uint16_t>(std::stoi(address, &digits));
  return c10::make_intrusive<c10d::TCPStore>(address.substr(digits + 1), options);
}

c10::intrusive_ptr<c10d::Backend> MakeNcclBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                  torch::Device device, std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  options->group_name = "belay";
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                                             rank, size, options);
  backend->setBoundDeviceId(device);
  return backend;
}

}  // namespace belay::runtime
