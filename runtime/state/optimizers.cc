#include "runtime/state/optimizers.h"

#include <functional>
#include <memory>
#include <set>
#include <type_traits>

#include <nlohmann/json.hpp>

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;
using nlohmann::json;
using torch::optim::Optimizer;
using torch::optim::OptimizerOptions;
using torch::optim::OptimizerParamState;

// A reference to a tensor field inside an optimizer's per-parameter state.
struct Field {
  const char* name;
  at::Tensor* tensor;
};

// Knows one optimizer class. Works on the base types, since an Optimizer holds those.
struct Adapter {
  virtual ~Adapter() = default;
  virtual const char* Class() const = 0;
  virtual std::unique_ptr<OptimizerParamState> NewState() const = 0;
  virtual std::vector<Field> Fields(OptimizerParamState& state) const = 0;
  // -1: the class counts no steps.
  virtual std::int64_t Step(const OptimizerParamState& state) const = 0;
  virtual void SetStep(OptimizerParamState& state, std::int64_t step) const = 0;
  virtual json Options(const OptimizerOptions& options) const = 0;
  virtual void SetOptions(OptimizerOptions& options, const json& values) const = 0;
  // Fills a new state as the first step would; false where that would not be the same.
  virtual bool Fill(OptimizerParamState& state, const at::Tensor& parameter, const OptimizerOptions& options) const = 0;
};

at::Tensor Zeros(const at::Tensor& parameter) { return torch::zeros_like(parameter, at::MemoryFormat::Preserve); }

// Adam and AdamW are alike in everything but their class.
template <typename OptionsType, typename StateType>
struct AdamLike : Adapter {
  explicit AdamLike(const char* name) : name_(name) {}
  const char* Class() const override { return name_; }
  std::unique_ptr<OptimizerParamState> NewState() const override { return std::make_unique<StateType>(); }
  std::vector<Field> Fields(OptimizerParamState& base) const override {
    auto& state = static_cast<StateType&>(base);
    return {{"exp_avg", &state.exp_avg()},
            {"exp_avg_sq", &state.exp_avg_sq()},
            {"max_exp_avg_sq", &state.max_exp_avg_sq()}};
  }
  std::int64_t Step(const OptimizerParamState& state) const override {
    return static_cast<const StateType&>(state).step();
  }
  void SetStep(OptimizerParamState& state, std::int64_t step) const override {
    static_cast<StateType&>(state).step(step);
  }
  json Options(const OptimizerOptions& base) const override {
    const auto& o = static_cast<const OptionsType&>(base);
    return {{"lr", o.lr()},   {"beta1", std::get<0>(o.betas())},  {"beta2", std::get<1>(o.betas())},
            {"eps", o.eps()}, {"weight_decay", o.weight_decay()}, {"amsgrad", o.amsgrad()}};
  }
  void SetOptions(OptimizerOptions& base, const json& v) const override {
    auto& o = static_cast<OptionsType&>(base);
    o.lr(v.at("lr").get<double>());
    o.betas(std::make_tuple(v.at("beta1").get<double>(), v.at("beta2").get<double>()));
    o.eps(v.at("eps").get<double>());
    o.weight_decay(v.at("weight_decay").get<double>());
    o.amsgrad(v.at("amsgrad").get<bool>());
  }
  bool Fill(OptimizerParamState& base, const at::Tensor& parameter, const OptimizerOptions& options) const override {
    auto& state = static_cast<StateType&>(base);
    state.exp_avg(Zeros(parameter));
    state.exp_avg_sq(Zeros(parameter));
    if (static_cast<const OptionsType&>(options).amsgrad()) state.max_exp_avg_sq(Zeros(parameter));
    return true;
  }

 private:
  const char* name_;
};

struct SgdAdapter : Adapter {
  using StateType = torch::optim::SGDParamState;
  using OptionsType = torch::optim::SGDOptions;
  const char* Class() const override { return "SGD"; }
  std::unique_ptr<OptimizerParamState> NewState() const override { return std::make_unique<StateType>(); }
  std::vector<Field> Fields(OptimizerParamState& state) const override {
    return {{"momentum_buffer", &static_cast<StateType&>(state).momentum_buffer()}};
  }
  std::int64_t Step(const OptimizerParamState&) const override { return -1; }
  void SetStep(OptimizerParamState&, std::int64_t) const override {}
  json Options(const OptimizerOptions& base) const override {
    const auto& o = static_cast<const OptionsType&>(base);
    return {{"lr", o.lr()},
            {"momentum", o.momentum()},
            {"dampening", o.dampening()},
            {"weight_decay", o.weight_decay()},
            {"nesterov", o.nesterov()}};
  }
  void SetOptions(OptimizerOptions& base, const json& v) const override {
    auto& o = static_cast<OptionsType&>(base);
    o.lr(v.at("lr").get<double>());
    o.momentum(v.at("momentum").get<double>());
    o.dampening(v.at("dampening").get<double>());
    o.weight_decay(v.at("weight_decay").get<double>());
    o.nesterov(v.at("nesterov").get<bool>());
  }
  // The first step takes the gradient itself as momentum, without dampening: zeros would give something else.
  bool Fill(OptimizerParamState&, const at::Tensor&, const OptimizerOptions&) const override { return false; }
};

struct RmspropAdapter : Adapter {
  using StateType = torch::optim::RMSpropParamState;
  using OptionsType = torch::optim::RMSpropOptions;
  const char* Class() const override { return "RMSprop"; }
  std::unique_ptr<OptimizerParamState> NewState() const override { return std::make_unique<StateType>(); }
  std::vector<Field> Fields(OptimizerParamState& base) const override {
    auto& state = static_cast<StateType&>(base);
    return {{"square_avg", &state.square_avg()},
            {"momentum_buffer", &state.momentum_buffer()},
            {"grad_avg", &state.grad_avg()}};
  }
  std::int64_t Step(const OptimizerParamState& state) const override {
    return static_cast<const StateType&>(state).step();
  }
  void SetStep(OptimizerParamState& state, std::int64_t step) const override {
    static_cast<StateType&>(state).step(step);
  }
  json Options(const OptimizerOptions& base) const override {
    const auto& o = static_cast<const OptionsType&>(base);
    return {{"lr", o.lr()},
            {"alpha", o.alpha()},
            {"eps", o.eps()},
            {"weight_decay", o.weight_decay()},
            {"momentum", o.momentum()},
            {"centered", o.centered()}};
  }
  void SetOptions(OptimizerOptions& base, const json& v) const override {
    auto& o = static_cast<OptionsType&>(base);
    o.lr(v.at("lr").get<double>());
    o.alpha(v.at("alpha").get<double>());
    o.eps(v.at("eps").get<double>());
    o.weight_decay(v.at("weight_decay").get<double>());
    o.momentum(v.at("momentum").get<double>());
    o.centered(v.at("centered").get<bool>());
  }
  bool Fill(OptimizerParamState& base, const at::Tensor& parameter, const OptimizerOptions& options) const override {
    auto& state = static_cast<StateType&>(base);
    const auto& o = static_cast<const OptionsType&>(options);
    state.square_avg(Zeros(parameter));
    if (o.momentum() > 0) state.momentum_buffer(Zeros(parameter));
    if (o.centered()) state.grad_avg(Zeros(parameter));
    return true;
  }
};

struct AdagradAdapter : Adapter {
  using StateType = torch::optim::AdagradParamState;
  using OptionsType = torch::optim::AdagradOptions;
  const char* Class() const override { return "Adagrad"; }
  std::unique_ptr<OptimizerParamState> NewState() const override { return std::make_unique<StateType>(); }
  std::vector<Field> Fields(OptimizerParamState& state) const override {
    return {{"sum", &static_cast<StateType&>(state).sum()}};
  }
  std::int64_t Step(const OptimizerParamState& state) const override {
    return static_cast<const StateType&>(state).step();
  }
  void SetStep(OptimizerParamState& state, std::int64_t step) const override {
    static_cast<StateType&>(state).step(step);
  }
  json Options(const OptimizerOptions& base) const override {
    const auto& o = static_cast<const OptionsType&>(base);
    return {{"lr", o.lr()},
            {"lr_decay", o.lr_decay()},
            {"weight_decay", o.weight_decay()},
            {"initial_accumulator_value", o.initial_accumulator_value()},
            {"eps", o.eps()}};
  }
  void SetOptions(OptimizerOptions& base, const json& v) const override {
    auto& o = static_cast<OptionsType&>(base);
    o.lr(v.at("lr").get<double>());
    o.lr_decay(v.at("lr_decay").get<double>());
    o.weight_decay(v.at("weight_decay").get<double>());
    o.initial_accumulator_value(v.at("initial_accumulator_value").get<double>());
    o.eps(v.at("eps").get<double>());
  }
  // Its constructor makes the state already.
  bool Fill(OptimizerParamState&, const at::Tensor&, const OptimizerOptions&) const override { return false; }
};

const Adapter* AdapterFor(const Optimizer& optimizer) {
  using namespace torch::optim;  // NOLINT: five class names
  static const AdamLike<AdamOptions, AdamParamState> adam("Adam");
  static const AdamLike<AdamWOptions, AdamWParamState> adamw("AdamW");
  static const SgdAdapter sgd;
  static const RmspropAdapter rmsprop;
  static const AdagradAdapter adagrad;
  if (dynamic_cast<const Adam*>(&optimizer)) return &adam;
  if (dynamic_cast<const AdamW*>(&optimizer)) return &adamw;
  if (dynamic_cast<const SGD*>(&optimizer)) return &sgd;
  if (dynamic_cast<const RMSprop*>(&optimizer)) return &rmsprop;
  if (dynamic_cast<const Adagrad*>(&optimizer)) return &adagrad;
  return nullptr;
}

void* Key(const at::Tensor& parameter) { return parameter.unsafeGetTensorImpl(); }

OptimizerParamState* FindState(Optimizer& optimizer, const at::Tensor& parameter) {
  const auto found = optimizer.state().find(Key(parameter));
  return found == optimizer.state().end() ? nullptr : found->second.get();
}

template <typename Each>  // each(group index, parameter)
void ForEachParameter(Optimizer& optimizer, const Each& each) {
  for (std::size_t g = 0; g < optimizer.param_groups().size(); ++g) {
    for (auto& parameter : optimizer.param_groups()[g].params()) each(g, parameter);
  }
}

}  // namespace

base::Status CheckOptimizer(Optimizer& optimizer, const ParameterNames& names) {
  if (AdapterFor(optimizer) == nullptr) {
    return Fail(Code::kUnsupported,
                "belay saves Adam, AdamW, SGD, RMSprop and Adagrad; this optimizer is another class. "
                "Add its tensors and records one by one instead");
  }
  base::Status status;
  std::size_t index = 0;
  ForEachParameter(optimizer, [&](std::size_t group, const at::Tensor& parameter) {
    if (status && !names.contains(Key(parameter))) {
      status = Fail(Code::kInvalidArgument, "parameter ", index, " (group ", group,
                    ") belongs to no module added before the optimizer: add the module first");
    }
    ++index;
  });
  return status;
}

void MaterialiseState(Optimizer& optimizer) {
  const Adapter& adapter = *AdapterFor(optimizer);
  torch::NoGradGuard no_grad;
  ForEachParameter(optimizer, [&](std::size_t group, const at::Tensor& parameter) {
    // A frozen parameter never gets state, so making some would only cost memory.
    if (!parameter.requires_grad() || FindState(optimizer, parameter) != nullptr) return;
    auto state = adapter.NewState();
    if (adapter.Fill(*state, parameter, optimizer.param_groups()[group].options())) {
      adapter.SetStep(*state, 0);
      optimizer.state()[Key(parameter)] = std::move(state);
    }
  });
}

std::vector<OptimizerTensor> OptimizerTensors(Optimizer& optimizer, const ParameterNames& names) {
  const Adapter& adapter = *AdapterFor(optimizer);
  std::vector<OptimizerTensor> tensors;
  ForEachParameter(optimizer, [&](std::size_t, const at::Tensor& parameter) {
    OptimizerParamState* state = FindState(optimizer, parameter);
    if (state == nullptr) return;
    for (const Field& field : adapter.Fields(*state)) {
      if (field.tensor->defined()) tensors.push_back({names.at(Key(parameter)) + "." + field.name, *field.tensor});
    }
  });
  return tensors;
}

std::string SaveOptimizerRecord(Optimizer& optimizer, const ParameterNames& names) {
  const Adapter& adapter = *AdapterFor(optimizer);
  json groups = json::array();
  for (auto& group : optimizer.param_groups()) {
    json parameters = json::array();
    for (const auto& parameter : group.params()) {
      json entry{{"name", names.at(Key(parameter))}};
      if (OptimizerParamState* state = FindState(optimizer, parameter)) {
        entry["step"] = adapter.Step(*state);
        entry["fields"] = json::array();
        for (const Field& field : adapter.Fields(*state)) {
          if (field.tensor->defined()) entry["fields"].push_back(field.name);
        }
      }
      parameters.push_back(std::move(entry));
    }
    groups.push_back({{"options", adapter.Options(group.options())}, {"parameters", std::move(parameters)}});
  }
  return json{{"class", adapter.Class()}, {"groups", std::move(groups)}}.dump();
}

base::Status LoadOptimizerRecord(Optimizer& optimizer, const ParameterNames& names, const std::string& record) {
  const Adapter& adapter = *AdapterFor(optimizer);
  torch::NoGradGuard no_grad;
  try {
    const json saved = json::parse(record);
    if (saved.at("class") != adapter.Class()) {
      return Fail(Code::kLayoutMismatch, "saved by ", saved.at("class").get<std::string>(), ", the program has ",
                  adapter.Class());
    }
    const json& groups = saved.at("groups");
    if (groups.size() != optimizer.param_groups().size()) {
      return Fail(Code::kLayoutMismatch, "saved with ", groups.size(), " parameter groups, the program has ",
                  optimizer.param_groups().size());
    }
    // First look, then touch.
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto& params = optimizer.param_groups()[g].params();
      const json& entries = groups[g].at("parameters");
      if (entries.size() != params.size()) {
        return Fail(Code::kLayoutMismatch, "group ", g, " was saved with ", entries.size(),
                    " parameters, the program has ", params.size());
      }
      for (std::size_t p = 0; p < params.size(); ++p) {
        const auto& name = names.at(Key(params[p]));
        if (entries[p].at("name") != name) {
          return Fail(Code::kLayoutMismatch, "parameter ", p, " of group ", g, " was saved as ",
                      entries[p].at("name").get<std::string>(), ", the program has ", name);
        }
      }
    }
    for (std::size_t g = 0; g < groups.size(); ++g) {
      auto& group = optimizer.param_groups()[g];
      adapter.SetOptions(group.options(), groups[g].at("options"));
      for (std::size_t p = 0; p < group.params().size(); ++p) {
        const at::Tensor& parameter = group.params()[p];
        const json& entry = groups[g].at("parameters")[p];
        if (!entry.contains("step")) {
          optimizer.state().erase(Key(parameter));
          continue;
        }
        // State that is there already keeps its memory.
        auto& slot = optimizer.state()[Key(parameter)];
        if (!slot) slot = adapter.NewState();
        adapter.SetStep(*slot, entry.at("step").get<std::int64_t>());
        std::set<std::string> wanted;
        for (const auto& field : entry.at("fields")) wanted.insert(field.get<std::string>());
        for (const Field& field : adapter.Fields(*slot)) {
          if (wanted.erase(field.name) == 0) {
            *field.tensor = at::Tensor();
          } else if (!field.tensor->defined()) {
            *field.tensor = torch::empty_like(parameter, at::MemoryFormat::Preserve);
          }
        }
        if (!wanted.empty()) {
          return Fail(Code::kLayoutMismatch, "saved with the unknown field ", *wanted.begin(), " of ",
                      names.at(Key(parameter)));
        }
      }
    }
  } catch (const json::exception& error) {
    return Fail(Code::kCorrupt, "the optimizer's record does not decode: ", error.what());
  }
  return {};
}

}  // namespace belay::runtime
