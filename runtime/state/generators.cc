#include "runtime/state/generators.h"

#include <charconv>
#include <cstring>
#include <mutex>

#include <ATen/Context.h>
#include <torch/torch.h>

#include "runtime/base/rng.h"

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;

constexpr const char* kCpu = "belay.rng.cpu";
constexpr const char* kCuda = "belay.rng.cuda";
constexpr const char* kSeed = "belay.rng.seed";

at::Generator GeneratorOf(c10::Device device) { return at::globalContext().defaultGenerator(device); }

std::string StateOf(at::Generator generator) {
  const std::lock_guard lock(generator.mutex());
  const at::Tensor state = generator.get_state().contiguous();
  return {static_cast<const char*>(state.const_data_ptr()), state.nbytes()};
}

base::Status SetState(at::Generator generator, const std::string& bytes) {
  at::Tensor state = torch::empty({static_cast<std::int64_t>(bytes.size())}, torch::kByte);
  std::memcpy(state.mutable_data_ptr(), bytes.data(), bytes.size());
  try {
    const std::lock_guard lock(generator.mutex());
    generator.set_state(state);
  } catch (const std::exception& error) {
    return Fail(Code::kCorrupt, "the state of a random number generator is not one: ", error.what());
  }
  return {};
}

base::Result<std::uint64_t> SeedOf(const checkpoint::Records& records) {
  const auto found = records.find(kSeed);
  std::uint64_t seed = 0;
  if (found == records.end() ||
      std::from_chars(found->second.data(), found->second.data() + found->second.size(), seed).ec != std::errc()) {
    return Fail(Code::kCorrupt, "the checkpoint has no random seed");
  }
  return seed;
}

}  // namespace

checkpoint::Records SaveGenerators(c10::Device device) {
  at::Generator cpu = GeneratorOf(at::kCPU);
  checkpoint::Records records;
  records[kCpu] = StateOf(cpu);
  records[kSeed] = std::to_string(cpu.current_seed());
  if (device.is_cuda()) records[kCuda] = StateOf(GeneratorOf(device));
  return records;
}

base::Status LoadGenerators(c10::Device device, const checkpoint::Records& records) {
  const auto cpu = records.find(kCpu);
  if (cpu == records.end()) return Fail(Code::kCorrupt, "the checkpoint has no state of the random number generator");
  BELAY_TRY(SetState(GeneratorOf(at::kCPU), cpu->second));
  if (device.is_cuda()) {
    if (const auto cuda = records.find(kCuda); cuda != records.end())
      return SetState(GeneratorOf(device), cuda->second);
    BELAY_ASSIGN(const auto seed, SeedOf(records));
    GeneratorOf(device).set_current_seed(seed);
  }
  return {};
}

base::Status DeriveGenerators(c10::Device device, const checkpoint::Records& records, base::Step step,
                              base::Rank rank) {
  BELAY_ASSIGN(const auto saved, SeedOf(records));
  const std::uint64_t seed = base::Mix64(saved + base::Mix64(static_cast<std::uint64_t>(step.value())) +
                                         base::Mix64(static_cast<std::uint64_t>(rank.value()) + 1));
  GeneratorOf(at::kCPU).set_current_seed(seed);
  if (device.is_cuda()) GeneratorOf(device).set_current_seed(seed);
  return {};
}

}  // namespace belay::runtime
