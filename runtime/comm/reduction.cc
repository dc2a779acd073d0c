#include "runtime/comm/reduction.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "runtime/base/check.h"

namespace belay::runtime {
namespace {

constexpr std::size_t kBlock = 1024;  // accumulators of a block stay in the first cache

template <typename T>
constexpr bool kIsReduced = std::is_same_v<T, c10::Half> || std::is_same_v<T, c10::BFloat16>;
template <typename T>
constexpr bool kIsFloating = kIsReduced<T> || std::is_floating_point_v<T>;

// What a T is added up in. Unsigned for integers: overflow wraps instead of being undefined.
template <typename T, bool = kIsFloating<T>>
struct AccumulatorOf {
  using Type = std::conditional_t<std::is_same_v<T, double>, double, float>;
};
template <typename T>
struct AccumulatorOf<T, false> {
  using Type = T;
};
template <>
struct AccumulatorOf<bool, false> {
  using Type = std::uint8_t;
};

template <Reduction kReduction, typename T, typename A>
inline A Combine(A sum, A value) {
  if constexpr (std::is_same_v<T, bool>) {
    if constexpr (kReduction == Reduction::kProduct || kReduction == Reduction::kMin || kReduction == Reduction::kAnd) {
      return sum & value;
    } else if constexpr (kReduction == Reduction::kXor) {
      return sum ^ value;
    } else {
      return sum | value;
    }
  } else if constexpr (kReduction == Reduction::kMin || kReduction == Reduction::kMax) {
    if constexpr (kIsFloating<T>) {
      if (sum != sum) return sum;
      if (value != value) return value;
    }
    if constexpr (kReduction == Reduction::kMin) return value < sum ? value : sum;
    return sum < value ? value : sum;
  } else if constexpr (kIsFloating<T>) {
    if constexpr (kReduction == Reduction::kProduct) return sum * value;
    return sum + value;
  } else {
    // Wide enough that small types are not promoted to int, whose product could overflow.
    const auto a = static_cast<std::uint64_t>(sum);
    const auto b = static_cast<std::uint64_t>(value);
    if constexpr (kReduction == Reduction::kProduct) return static_cast<A>(a * b);
    if constexpr (kReduction == Reduction::kAnd) return static_cast<A>(a & b);
    if constexpr (kReduction == Reduction::kOr) return static_cast<A>(a | b);
    if constexpr (kReduction == Reduction::kXor) return static_cast<A>(a ^ b);
    return static_cast<A>(a + b);
  }
}

template <Reduction kReduction, typename T>
void Run(std::span<const void* const> inputs, void* out, std::size_t count) {
  using A = typename AccumulatorOf<T>::Type;
  using Stored = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
  const A ranks = static_cast<A>(static_cast<float>(inputs.size()));
  std::array<A, kBlock> sums;
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t n = std::min(kBlock, count - begin);
    const auto* first = static_cast<const Stored*>(inputs[0]) + begin;
    for (std::size_t i = 0; i < n; ++i) {
      sums[i] = static_cast<A>(first[i]);
      if constexpr (std::is_same_v<T, bool>) sums[i] = sums[i] != 0;
    }
    for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
      const auto* values = static_cast<const Stored*>(inputs[rank]) + begin;
      for (std::size_t i = 0; i < n; ++i) {
        A value = static_cast<A>(values[i]);
        if constexpr (std::is_same_v<T, bool>) value = value != 0;
        sums[i] = Combine<kReduction, T, A>(sums[i], value);
      }
    }
    auto* to = static_cast<Stored*>(out) + begin;
    for (std::size_t i = 0; i < n; ++i) {
      if constexpr (kReduction == Reduction::kAverage && kIsFloating<T>) {
        to[i] = static_cast<Stored>(sums[i] / ranks);
      } else {
        to[i] = static_cast<Stored>(sums[i]);
      }
    }
  }
}

template <typename T>
void RunFor(Reduction reduction, std::span<const void* const> inputs, void* out, std::size_t count) {
  switch (reduction) {
    case Reduction::kSum:
      return Run<Reduction::kSum, T>(inputs, out, count);
    case Reduction::kAverage:
      if constexpr (kIsFloating<T>) Run<Reduction::kAverage, T>(inputs, out, count);
      return;
    case Reduction::kProduct:
      return Run<Reduction::kProduct, T>(inputs, out, count);
    case Reduction::kMin:
      return Run<Reduction::kMin, T>(inputs, out, count);
    case Reduction::kMax:
      return Run<Reduction::kMax, T>(inputs, out, count);
    case Reduction::kAnd:
      if constexpr (!kIsFloating<T>) Run<Reduction::kAnd, T>(inputs, out, count);
      return;
    case Reduction::kOr:
      if constexpr (!kIsFloating<T>) Run<Reduction::kOr, T>(inputs, out, count);
      return;
    case Reduction::kXor:
      if constexpr (!kIsFloating<T>) Run<Reduction::kXor, T>(inputs, out, count);
      return;
  }
}

}  // namespace

std::size_t ElementBytes(Element element) {
  switch (element) {
    case Element::kDouble:
    case Element::kInt64:
    case Element::kUint64:
      return 8;
    case Element::kFloat:
    case Element::kInt32:
    case Element::kUint32:
      return 4;
    case Element::kHalf:
    case Element::kBFloat16:
    case Element::kInt16:
    case Element::kUint16:
      return 2;
    case Element::kInt8:
    case Element::kUint8:
    case Element::kBool:
      return 1;
  }
  return 1;
}

std::string_view ReductionName(Reduction reduction) {
  constexpr std::array<std::string_view, 8> kNames = {"sum", "avg", "product", "min", "max", "band", "bor", "bxor"};
  return kNames[static_cast<std::size_t>(reduction)];
}

bool ReductionApplies(Reduction reduction, Element element) {
  const bool floating = element == Element::kDouble || element == Element::kFloat || element == Element::kHalf ||
                        element == Element::kBFloat16;
  switch (reduction) {
    case Reduction::kAverage:
      return floating;
    case Reduction::kAnd:
    case Reduction::kOr:
    case Reduction::kXor:
      return !floating;
    default:
      return true;
  }
}

void ReduceInOrder(Reduction reduction, Element element, std::span<const void* const> inputs, void* out,
                   std::size_t count) {
  BELAY_CHECK(!inputs.empty() && ReductionApplies(reduction, element), "reduction ", ReductionName(reduction));
  switch (element) {
    case Element::kDouble:
      return RunFor<double>(reduction, inputs, out, count);
    case Element::kFloat:
      return RunFor<float>(reduction, inputs, out, count);
    case Element::kHalf:
      return RunFor<c10::Half>(reduction, inputs, out, count);
    case Element::kBFloat16:
      return RunFor<c10::BFloat16>(reduction, inputs, out, count);
    case Element::kInt8:
      return RunFor<std::int8_t>(reduction, inputs, out, count);
    case Element::kInt16:
      return RunFor<std::int16_t>(reduction, inputs, out, count);
    case Element::kInt32:
      return RunFor<std::int32_t>(reduction, inputs, out, count);
    case Element::kInt64:
      return RunFor<std::int64_t>(reduction, inputs, out, count);
    case Element::kUint8:
      return RunFor<std::uint8_t>(reduction, inputs, out, count);
    case Element::kUint16:
      return RunFor<std::uint16_t>(reduction, inputs, out, count);
    case Element::kUint32:
      return RunFor<std::uint32_t>(reduction, inputs, out, count);
    case Element::kUint64:
      return RunFor<std::uint64_t>(reduction, inputs, out, count);
    case Element::kBool:
      return RunFor<bool>(reduction, inputs, out, count);
  }
}

}  // namespace belay::runtime
