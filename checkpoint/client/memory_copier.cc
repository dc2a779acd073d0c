// The Copier for tensors in host memory.
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "runtime/base/check.h"

namespace belay::checkpoint {
namespace {

class MemoryCopier final : public Copier {
 public:
  base::Status Register(std::span<std::byte> /*staging*/) override { return {}; }
  void Unregister(std::span<std::byte> /*staging*/) override {}

  base::Status Begin(std::span<const Copy> copies) override {
    copies_.assign(copies.begin(), copies.end());
    return {};
  }

  base::Result<ChunkDigest> Land(std::size_t first, std::size_t last) override {
    BELAY_CHECK(first <= last && last < copies_.size(), "lands copies ", first, " to ", last, " of ", copies_.size());
    return CopyAndDigest(std::span(copies_).subspan(first, last - first + 1));
  }

  void Settle() override {}

 private:
  std::vector<Copy> copies_;  // does not change between Begin and the next Begin
};

}  // namespace

std::unique_ptr<Copier> MakeMemoryCopier() { return std::make_unique<MemoryCopier>(); }

}  // namespace belay::checkpoint
