#include "tests/contract/index_contract.h"
#include "runtime/base/fault/faulty_index.h"
#include "runtime/base/sim/memory_index.h"

namespace belay::base {
namespace {

struct InMemory {
  MemoryIndex memory;
  Index& index() { return memory; }
};
// A wrapper that nobody asked to fail must not be noticed.
struct Wrapped {
  MemoryIndex memory;
  FaultyIndex faulty{memory};
  Index& index() { return faulty; }
};
using Makers = testing::Types<InMemory, Wrapped>;
INSTANTIATE_TYPED_TEST_SUITE_P(Memory, IndexContract, Makers);

}  // namespace
}  // namespace belay::base
