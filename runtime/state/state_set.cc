#include "runtime/state/state_set.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include <ATen/MemoryOverlap.h>

#include "runtime/state/generators.h"

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;

// User tensors up to this size are captured inside step_done, because nobody knows when the program changes them.
constexpr std::uint64_t kEagerTensorBytes = 1024 * 1024;

base::Status CheckTensor(const std::string& full_name, const at::Tensor& tensor) {
  if (!tensor.defined()) return Fail(Code::kInvalidArgument, full_name, " is not defined");
  if (tensor.layout() != at::kStrided || !ToDType(tensor.scalar_type())) {
    return Fail(Code::kInvalidArgument, full_name, " is ", c10::toString(tensor.scalar_type()), " ", tensor.layout(),
                ": checkpoints carry plain dense tensors only");
  }
  // Saving it would do, but no restore could write into it.
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) {
    return Fail(Code::kInvalidArgument, full_name,
                " has several elements at one address (an expanded view): give it memory of its own with .clone()");
  }
  return {};
}

}  // namespace

base::Status StateSet::CheckName(const std::string& name) const {
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto other = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty() || name.size() > 100 || !letter(name[0]) || !std::all_of(name.begin(), name.end(), other)) {
    return Fail(Code::kInvalidArgument, "the name \"", name, "\" is not of the form [a-z][a-z0-9_]*");
  }
  for (const Item& item : items_) {
    if (item.name == name) return Fail(Code::kInvalidArgument, "the name ", name, " was added twice");
  }
  return {};
}

base::Status StateSet::AddModule(const std::string& name, torch::nn::Module& module) {
  BELAY_TRY(CheckName(name));
  for (const auto& parameter : module.named_parameters())
    BELAY_TRY(CheckTensor(name + "." + parameter.key(), parameter.value()));
  items_.push_back({name, ModuleItem{&module}});
  return {};
}

base::Status StateSet::AddOptimizer(const std::string& name, torch::optim::Optimizer& optimizer) {
  BELAY_TRY(CheckName(name));
  if (auto status = CheckOptimizer(optimizer, NamesOfParameters()); !status) return Wrap(status.error(), name);
  items_.push_back({name, OptimizerItem{&optimizer}});
  return {};
}

base::Status StateSet::AddTensor(const std::string& name, torch::Tensor& tensor, bool per_rank) {
  BELAY_TRY(CheckName(name));
  BELAY_TRY(CheckTensor(name, tensor));
  items_.push_back({name, TensorItem{&tensor, per_rank}});
  return {};
}

base::Status StateSet::AddRecord(const std::string& name, RecordHooks hooks, bool shared) {
  BELAY_TRY(CheckName(name));
  items_.push_back({name, RecordItem{std::move(hooks), shared}});
  return {};
}

ParameterNames StateSet::NamesOfParameters() const {
  const auto modules = std::count_if(items_.begin(), items_.end(),
                                     [](const Item& item) { return std::holds_alternative<ModuleItem>(item.what); });
  ParameterNames names;
  for (const Item& item : items_) {
    const auto* entry = std::get_if<ModuleItem>(&item.what);
    if (entry == nullptr) continue;
    for (const auto& parameter : entry->module->named_parameters()) {
      // emplace: a tied parameter keeps the first of its names.
      names.emplace(parameter.value().unsafeGetTensorImpl(),
                    modules > 1 ? item.name + "." + parameter.key() : parameter.key());
    }
  }
  return names;
}

void StateSet::Materialise() {
  for (Item& item : items_) {
    if (auto* entry = std::get_if<OptimizerItem>(&item.what)) MaterialiseState(*entry->optimizer);
  }
}

base::Result<std::vector<StateTensor>> StateSet::Describe() const {
  const ParameterNames names = NamesOfParameters();
  std::vector<StateTensor> tensors;
  // Tied parameters are one tensor, or several over the same memory.
  std::set<std::tuple<const void*, std::vector<std::int64_t>, at::ScalarType>> seen;
  base::Status status;
  const auto take = [&](StateTensor entry) {
    if (!status) return;
    status = CheckTensor(entry.FullName(), entry.tensor);
    if (!status || entry.tensor.numel() == 0) return;
    entry.tensor = entry.tensor.detach();
    if (!seen.emplace(entry.tensor.const_data_ptr(), entry.tensor.sizes().vec(), entry.tensor.scalar_type()).second)
      return;
    entry.eager = entry.eager || !entry.tensor.is_contiguous();
    entry.frozen = entry.frozen && !entry.eager;
    tensors.push_back(std::move(entry));
  };
  for (const Item& item : items_) {
    if (const auto* module = std::get_if<ModuleItem>(&item.what)) {
      for (const auto& parameter : module->module->named_parameters()) {
        take({.part = item.name,
              .name = parameter.key(),
              .frozen = !parameter.value().requires_grad(),
              .tensor = parameter.value()});
      }
      for (const auto& buffer : module->module->named_buffers()) {
        if (!buffer.value().defined()) continue;
        take({.part = item.name,
              .name = buffer.key(),
              .holders = Holders::kMain,
              .eager = true,
              .tensor = buffer.value()});
      }
    } else if (const auto* optimizer = std::get_if<OptimizerItem>(&item.what)) {
      // Somebody may have added a parameter group since.
      if (auto known = CheckOptimizer(*optimizer->optimizer, names); !known) return Wrap(known.error(), item.name);
      for (auto& field : OptimizerTensors(*optimizer->optimizer, names)) {
        take({.part = item.name, .name = std::move(field.name), .tensor = std::move(field.tensor)});
      }
    } else if (const auto* user = std::get_if<TensorItem>(&item.what)) {
      take({.part = item.name,
            .name = user->per_rank ? PerRankName(rank_) : "value",
            .holders = user->per_rank ? Holders::kPerRank : Holders::kAlike,
            .eager = user->tensor->defined() && user->tensor->nbytes() <= kEagerTensorBytes,
            .tensor = *user->tensor});
    }
  }
  if (!status) return tl::unexpected(status.error());
  return tensors;
}

std::vector<at::Tensor> StateSet::TrainedParameters() const {
  std::vector<at::Tensor> parameters;
  for (const Item& item : items_) {
    if (const auto* entry = std::get_if<ModuleItem>(&item.what)) {
      for (const auto& parameter : entry->module->parameters()) {
        if (parameter.requires_grad()) parameters.push_back(parameter);
      }
    }
  }
  return parameters;
}

base::Result<checkpoint::Records> StateSet::SaveRecords() const {
  const ParameterNames names = NamesOfParameters();
  checkpoint::Records records = SaveGenerators(device_);
  for (const Item& item : items_) {
    if (const auto* entry = std::get_if<OptimizerItem>(&item.what)) {
      records[item.name] = SaveOptimizerRecord(*entry->optimizer, names);
    } else if (const auto* record = std::get_if<RecordItem>(&item.what)) {
      try {
        records[item.name] = record->hooks.save();
      } catch (const std::exception& error) {
        return Fail(Code::kInvalidArgument, "saving ", item.name, " failed: ", error.what());
      }
    }
  }
  return records;
}

std::vector<std::string> StateSet::SurplusRecords(const checkpoint::Records& records) const {
  std::vector<std::string> surplus;
  for (const auto& [name, bytes] : records) {
    if (IsGeneratorRecord(name)) continue;
    const bool known = std::any_of(items_.begin(), items_.end(), [&, &called = name](const Item& item) {
      return item.name == called &&
             (std::holds_alternative<OptimizerItem>(item.what) || std::holds_alternative<RecordItem>(item.what));
    });
    if (!known) surplus.push_back(name);
  }
  return surplus;
}

base::Status StateSet::LoadOptimizers(const checkpoint::Records& records) {
  const ParameterNames names = NamesOfParameters();
  for (Item& item : items_) {
    auto* entry = std::get_if<OptimizerItem>(&item.what);
    if (entry == nullptr) continue;
    const auto found = records.find(item.name);
    if (found == records.end()) {
      return Fail(Code::kLayoutMismatch, "the checkpoint has no optimizer called ", item.name);
    }
    if (auto status = LoadOptimizerRecord(*entry->optimizer, names, found->second); !status) {
      return Wrap(status.error(), item.name);
    }
  }
  return {};
}

base::Status StateSet::LoadOthers(const checkpoint::Records& own, const checkpoint::Records& main,
                                  const Origin& origin) {
  for (Item& item : items_) {
    auto* entry = std::get_if<RecordItem>(&item.what);
    if (entry == nullptr) continue;
    const checkpoint::Records& records = entry->shared ? main : own;
    const auto found = records.find(item.name);
    if (found == records.end()) return Fail(Code::kLayoutMismatch, "the checkpoint has no record called ", item.name);
    try {
      entry->hooks.load(found->second);
    } catch (const std::exception& error) {
      return Fail(Code::kLayoutMismatch, "loading ", item.name, " failed: ", error.what());
    }
  }
  return origin.same_world ? LoadGenerators(device_, own) : DeriveGenerators(device_, main, origin.step, rank_);
}

}  // namespace belay::runtime
