// The index's records, as a damaged database may hand them out, and those by which data folders know each other. The
// first byte chooses: a job's record, a checkpoint's, a device's, a home's folders, a folder's home, or a whole index,
// whose keys and values are told apart by "\n".
#include "checkpoint/index/schema.h"
#include "checkpoint/spread/data_folders.h"
#include "runtime/base/sim/memory_index.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace belay;
using namespace belay::checkpoint;

void ReadIndex(std::string_view text) {
  base::MemoryIndex records;
  base::IndexBatch batch;
  while (!text.empty()) {
    std::string_view words[2];
    for (std::string_view& word : words) {
      const std::size_t end = text.find('\n');
      word = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    batch.Put(std::string(words[0]), std::string(words[1]));
  }
  FUZZ_CHECK(records.Write(batch).has_value());
  const auto catalogue = index::ReadCatalogue(records);
  if (!catalogue) return;
  // What was understood can be said again, and is understood the same way.
  const auto again = index::ReplaceCatalogue(records, *catalogue);
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(records.Write(*again).has_value());
  const auto second = index::ReadCatalogue(records);
  FUZZ_CHECK(second.has_value());
  FUZZ_CHECK(index::ReplaceCatalogue(records, *second)->empty());
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  if (data.empty()) return;
  const std::string_view text = data.substr(1);
  if (data.front() == 'j') {
    const auto record = index::DecodeJobRecord(text);
    if (!record) return;
    const std::string encoded = index::EncodeJobRecord(*record);
    FUZZ_CHECK(index::EncodeJobRecord(*index::DecodeJobRecord(encoded)) == encoded);
  } else if (data.front() == 'c') {
    const auto info = index::DecodeCheckpointRecord(text);
    if (!info) return;
    const std::string encoded = index::EncodeCheckpointRecord(*info);
    const auto again = index::DecodeCheckpointRecord(encoded);
    FUZZ_CHECK(again.has_value());
    FUZZ_CHECK(index::EncodeCheckpointRecord(*again) == encoded);
  } else if (data.front() == 'd') {
    const auto record = index::DecodeDeviceRecord(text);
    if (!record) return;
    FUZZ_CHECK(base::IsUsable(record->shape));
    const auto again = index::DecodeDeviceRecord(index::EncodeDeviceRecord(*record));
    FUZZ_CHECK(again.has_value());
    FUZZ_CHECK(*again == *record);
  } else if (data.front() == 'f') {
    const auto folders = spread::DecodeDataFolders(text);
    if (!folders) return;
    const auto again = spread::DecodeDataFolders(spread::EncodeDataFolders(*folders));
    FUZZ_CHECK(again.has_value());
    FUZZ_CHECK(*again == *folders);
  } else if (data.front() == 'm') {
    const auto membership = spread::DecodeMembership(text);
    if (!membership) return;
    const std::string encoded = spread::EncodeMembership(*membership);
    FUZZ_CHECK(spread::EncodeMembership(*spread::DecodeMembership(encoded)) == encoded);
  } else {
    ReadIndex(text);
  }
}
