// Adding up the ranks' values, element by element, always in rank order.
//
// Half and bfloat16 are added up in float and rounded once at the end; integers wrap; bool is the logic of the
// operation. Minimum and maximum hand a NaN on, so that a diverged loss cannot hide. Pure: no MPI, no torch, no
// threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace belay::runtime {

enum class Element : std::uint8_t {
  kDouble,
  kFloat,
  kHalf,
  kBFloat16,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kBool,
};

enum class Reduction : std::uint8_t { kSum, kAverage, kProduct, kMin, kMax, kAnd, kOr, kXor };

std::size_t ElementBytes(Element element);
std::string_view ReductionName(Reduction reduction);

// Averages are for floating types, bit operations for integers and bool.
bool ReductionApplies(Reduction reduction, Element element);

// out[i] = inputs[0][i] op inputs[1][i] op ..., `count` elements each, from the left. `out` may be one of the inputs.
void ReduceInOrder(Reduction reduction, Element element, std::span<const void* const> inputs, void* out,
                   std::size_t count);

}  // namespace belay::runtime
