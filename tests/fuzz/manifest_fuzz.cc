#include <string>

#include "checkpoint/format/digest.h"
#include "checkpoint/format/manifest.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

// What is accepted has names that are safe to open and ranks inside the world, and comes back from its own encoding.
void Check(std::string_view text) {
  using namespace belay::checkpoint;
  const auto manifest = DecodeManifest(text);
  if (!manifest) return;
  FUZZ_CHECK(manifest->world_size >= 1 && manifest->step.value() >= 0);
  for (const ManifestFile& file : manifest->files) {
    FUZZ_CHECK(ValidateName("file", file.name).has_value());
    FUZZ_CHECK(file.rank.value() >= 0 && file.rank.value() < manifest->world_size);
    FUZZ_CHECK(file.header_bytes <= file.bytes);
  }
  const std::string encoded = EncodeManifest(*manifest);
  const auto again = DecodeManifest(encoded);
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(EncodeManifest(*again) == encoded);
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  Check(data);
  // No mutation gets past the digest; so it is mended, to test what lies behind it.
  std::string text(data.substr(0, data.rfind(",\n \"digest\"")));
  Check(text + ",\n \"digest\": \"" + belay::checkpoint::Sha256Hex(text + "\n}\n") + "\"\n}\n");
  if (const auto name = belay::checkpoint::ParseCheckpointDirectoryName(data)) {
    FUZZ_CHECK(belay::checkpoint::CheckpointDirectoryName(name->step, name->generation) == data);
  }
}
