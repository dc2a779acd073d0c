#include "belay/session.h"

#include <exception>
#include <span>
#include <utility>
#include <vector>

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAFunctions.h>

#include "runtime/base/environment.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/host.h"
#include "runtime/base/log.h"
#include "runtime/session/device_choice.h"
#include "runtime/session/memory_node.h"
#include "runtime/session/session_state.h"
#include "runtime/session/torch_parts.h"
#include "runtime/session/uncaught.h"

namespace belay {
namespace {

[[noreturn]] void Throw(const base::Error& error) {
  throw Error(static_cast<int>(base::Describe(error.code).exit_status), error.Text());
}

// What another rank's vote may take to come when a program leaves without finish(): a step, roughly.
constexpr base::Duration kVotePatience = std::chrono::seconds(5);

// BELAY_DEVICE=cpu keeps a run off the GPUs.
torch::Device ChooseDevice(const detail::Place& place, runtime::HeldDevice* held) {
  const std::string wish = base::GetEnvironment("BELAY_DEVICE").value_or("");
  if (!wish.empty() && wish != "cpu" && wish != "cuda") {
    throw Error(static_cast<int>(base::ExitStatus::kUsage), "BELAY_DEVICE is \"" + wish + "\": cpu or cuda");
  }
  const int gpus = wish == "cpu" ? 0 : c10::cuda::device_count();
  if (gpus == 0) {
    if (wish == "cuda")
      throw Error(static_cast<int>(base::ExitStatus::kUnavailable), "BELAY_DEVICE=cuda, but no GPU is usable");
    return torch::kCPU;
  }
  const auto index = static_cast<c10::DeviceIndex>(runtime::DeviceIndex(place.local_rank, gpus));
  try {
    c10::cuda::set_device(index);
    const auto& uuid = at::cuda::getDeviceProperties(index)->uuid.bytes;
    held->visible = gpus;
    held->gpu = runtime::DeviceName(std::span(reinterpret_cast<const std::uint8_t*>(uuid), sizeof uuid));
  } catch (const c10::Error& error) {
    Throw({base::Code::kDevice,
           base::Str("GPU ", static_cast<int>(index), " of ", gpus, " visible ones on ", held->host,
                     " cannot be used: ", error.what_without_backtrace()),
           nullptr});
  }
  return {torch::kCUDA, index};
}

std::optional<std::int32_t> ChooseMemoryNode(torch::Device device) {
  std::optional<std::string> gpu;
  if (device.is_cuda()) {
    const auto& properties = *at::cuda::getDeviceProperties(device.index());
    gpu = runtime::PciBusId(properties.pciDomainID, properties.pciBusID, properties.pciDeviceID);
  }
  return runtime::NearestNode(runtime::ReadPlacement(base::PosixFileSystem(), gpu, base::AllowedCores()));
}

// Collective; the same answer on every rank.
base::Status AgreeOnDevices(detail::SessionState& state, const runtime::HeldDevice& own) {
  BELAY_ASSIGN(const std::vector<std::string> all, state.AllGather(runtime::EncodeHeldDevice(own)));
  std::vector<runtime::HeldDevice> held;
  for (const std::string& bytes : all) {
    BELAY_ASSIGN(held.emplace_back(), runtime::DecodeHeldDevice(bytes));
  }
  return runtime::CheckDevices(held);
}

// All ranks together.
void Leave(detail::SessionState& state) {
  // Everything is saved, or never will be: not worth failing the run for.
  if (auto ended = state.torch->groups.Shutdown(); !ended) {
    base::LogWarning("process_group_not_ended", {{"reason", ended.error().Text()}});
  }
  state.LeaveMpi();
}

// Session objects alive, to refuse a second one.
bool session_exists = false;

}  // namespace

Session::Session(int argc, char** argv) : state_(std::make_unique<detail::SessionState>()) {
  runtime::EndOnUncaughtErrors();
  if (session_exists)
    throw Error(static_cast<int>(base::ExitStatus::kSoftware), "a program has one belay::Session only");
  base::IgnoreSigpipe();
  if (auto started = state_->Start(&argc, &argv); !started) Throw(started.error());
  const detail::Place& place = state_->place;
  runtime::NameRankInErrors(place.rank, place.world_size);
  state_->torch = std::make_shared<detail::TorchParts>();
  runtime::HeldDevice held{.node_rank = place.node_rank, .host = base::HostName()};
  state_->torch->device = ChooseDevice(place, &held);
  if (auto agreed = AgreeOnDevices(*state_, held); !agreed) Throw(agreed.error());
  state_->memory_node = ChooseMemoryNode(state_->torch->device);
  runtime::ProcessGroupOptions options;
  options.device = state_->torch->device;
  options.single_node = state_->single_node();
  try {
    state_->torch->groups = runtime::MakeProcessGroups(state_->control(), options);
  } catch (const c10::Error& error) {
    Throw({base::Code::kCommunication, base::Str("the process group cannot be made: ", error.what_without_backtrace()),
           nullptr});
  }
  session_exists = true;
}

Session::~Session() {
  session_exists = false;
  if (state_->finished()) return;
  if (std::uncaught_exceptions() > 0) {
    // The others may be waiting in a collective for this rank, so nothing here may wait for them.
    state_->torch->groups.Abort();
    return;
  }
  // Left without finish(): in order, but without a last save.
  base::LogWarning("session_not_finished", {{"rank", rank()}, {"advice", "end main with: return session.finish();"}});
  state_->SettleVote(kVotePatience);
  Leave(*state_);
}

int Session::rank() const { return state_->place.rank; }
int Session::world_size() const { return state_->place.world_size; }
int Session::local_rank() const { return state_->place.local_rank; }
int Session::local_world_size() const { return state_->place.local_world_size; }
torch::Device Session::device() const { return state_->torch->device; }
const c10::intrusive_ptr<c10d::ProcessGroup>& Session::process_group() const { return state_->torch->groups.world; }
const std::string& Session::project() const { return state_->environment.project; }
const std::string& Session::job() const { return state_->environment.job; }
std::uint64_t Session::generation() const { return state_->environment.generation; }
const std::string& Session::run_directory() const { return state_->environment.run_directory; }
void Session::idle() { state_->EnterPhase(base::Phase::kIdle); }

int Session::finish() {
  const bool first = !state_->finished();
  auto status = state_->Finish();
  if (!status) Throw(status.error());
  if (first) {
    // Here, not in the destructor: std::exit(session.finish()) must leave MPI too.
    Leave(*state_);
  }
  return *status;
}

}  // namespace belay
