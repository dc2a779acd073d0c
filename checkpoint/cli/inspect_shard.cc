#include "checkpoint/cli/inspect_shard.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <span>
#include <thread>

#include "checkpoint/cli/salvage.h"
#include "checkpoint/format/digest.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Error;
using base::Result;

class ShardInspector {
 public:
  ShardInspector(std::unique_ptr<base::File> file, const FileContext& context, FileView& view)
      : file_(std::move(file)), context_(context), view_(view) {}

  void Run() {
    ReadHeader();
    if (view_.header_bytes == 0) return;
    CompareSizes();
    CheckChunks();
    DescribeTensors();
    SayRanges();
    if (view_.problems.empty() && view_.header == Health::kGood && view_.chunks_good == view_.chunks) {
      view_.health = Health::kGood;
    }
  }

 private:
  void Complain(Code code, std::string what) { view_.problems.push_back({code, view_.name + ": " + what, nullptr}); }

  void ReadHeader() {
    const std::uint64_t limit = std::min(view_.bytes, 8 + kShardHeaderBytesMax);
    std::vector<std::byte> start(std::min<std::uint64_t>(limit, 8));
    if (!Read(0, start)) return;
    const auto said = ShardHeaderBytes(start);
    std::uint64_t known = context_.expected != nullptr ? context_.expected->header_bytes : 0;
    if (known <= 8 || known > 8 + kShardHeaderBytesMax) known = 0;  // a damaged manifest says anything
    // Without a length to believe, all that could be a header.
    start.resize(known != 0 ? std::min(known, limit) : said ? std::min(*said, limit) : limit);
    if (!Read(0, start)) return;
    view_.header = Health::kDamaged;
    auto header = DecodeShardHeader(start);
    if (header && context_.expected == nullptr) view_.header = Health::kUnproven;
    if (context_.expected != nullptr) {
      if (start.size() == known && Sha256Hex(std::span<const std::byte>(start)) == context_.expected->header_sha256) {
        view_.header = header ? Health::kGood : Health::kDamaged;
      } else {
        Complain(Code::kCorrupt, base::Str("its header (file bytes 0 to ", known, ") does not match the manifest"));
      }
    }
    if (!header) {
      Complain(Code::kCorrupt, base::Str("its header does not decode: ", header.error().Text()));
      return Salvage(start, known);
    }
    plan_ = std::move(header->plan);
    digests_ = std::move(header->digests);
    view_.header_bytes = plan_.header_bytes;
    if (view_.header == Health::kDamaged) view_.bad.push_back({0, view_.header_bytes});
    view_.data_bytes = plan_.data_bytes;
    if (header->identity.job.empty()) {
      view_.kind = "safetensors";
    } else {
      view_.identity = header->identity;
      CheckIdentity();
    }
  }

  void Salvage(std::vector<std::byte>& start, std::uint64_t known) {
    SalvagedHeader found = SalvageShardHeader(start, known);
    view_.header_bytes = found.header_bytes;
    if (view_.header_bytes == 0 || view_.header_bytes > view_.bytes) {
      view_.header_bytes = 0;
      view_.bad.push_back({0, view_.bytes});
      return;
    }
    view_.identity = found.identity;
    view_.bad.push_back({0, view_.header_bytes});
    plan_.entries = std::move(found.entries);
    view_.data_bytes = view_.bytes - view_.header_bytes;
    if (context_.expected != nullptr && context_.expected->bytes >= view_.header_bytes) {
      view_.data_bytes = context_.expected->bytes - view_.header_bytes;
    } else if (!plan_.entries.empty()) {  // the file may be cut off
      view_.data_bytes = std::max(view_.data_bytes, plan_.entries.back().data_offset + plan_.entries.back().bytes);
    }
    // A list of another length is of other data, or damaged.
    if (found.digests.size() == ChunkCount(view_.data_bytes)) digests_ = std::move(found.digests);
  }

  void CheckIdentity() {
    if (context_.manifest == nullptr || context_.expected == nullptr) return;
    const ShardIdentity& own = *view_.identity;
    const Manifest& manifest = *context_.manifest;
    if (own.project == manifest.project && own.job == manifest.job && own.step == manifest.step &&
        own.generation == manifest.generation && own.rank == context_.expected->rank &&
        own.world_size == manifest.world_size) {
      return;
    }
    Complain(Code::kCorrupt, base::Str("it belongs to another checkpoint: job ", own.project, "/", own.job, ", step ",
                                       own.step, ", generation ", own.generation, ", rank ", own.rank));
  }

  void CompareSizes() {
    if (!view_.bytes_expected) view_.bytes_expected = view_.header_bytes + view_.data_bytes;
    const std::uint64_t expected = *view_.bytes_expected;
    if (view_.bytes < expected) {
      Complain(Code::kIncomplete, base::Str("it is cut off: ", view_.bytes, " of ", expected, " bytes"));
    } else if (view_.bytes > expected) {
      Complain(Code::kCorrupt, base::Str("it is too long: ", view_.bytes, " bytes instead of ", expected));
    }
  }

  ByteRange ChunkRange(std::uint64_t chunk) const {  // of the data
    return {chunk * kChunkBytes, std::min(view_.data_bytes, (chunk + 1) * kChunkBytes)};
  }

  void CheckChunks() {
    const std::uint64_t have = view_.bytes - std::min(view_.bytes, view_.header_bytes);
    // Damage may claim more data than there could ever be; what is missing needs no list of chunks.
    view_.chunks = digests_.size();
    health_.assign(digests_.size(), Health::kMissing);
    std::uint64_t whole = 0;
    while (whole < view_.chunks && ChunkRange(whole).end <= have) ++whole;
    std::atomic<std::uint64_t> next{0};
    const auto work = [&] {
      std::vector<std::byte> buffer(kChunkBytes);
      for (std::uint64_t i = next++; i < whole; i = next++) health_[i] = CheckChunk(i, buffer);
    };
    std::vector<std::jthread> helpers;
    const auto threads = std::min<std::uint64_t>(static_cast<std::uint64_t>(std::max(context_.threads, 1)), whole);
    for (std::uint64_t i = 1; i < threads; ++i) helpers.emplace_back(work);
    if (whole > 0) work();
    helpers.clear();
    for (std::uint64_t i = 0; i < view_.chunks; ++i) {
      if (health_[i] == Health::kGood) ++view_.chunks_good;
      if (health_[i] == Health::kDamaged) ++view_.chunks_damaged;
      if (health_[i] == Health::kMissing) ++view_.chunks_missing;
      if (health_[i] != Health::kGood) AddBad(ChunkRange(i));
    }
    if (digests_.empty() && have < view_.data_bytes) AddBad({have, view_.data_bytes});
    if (digests_.empty() && view_.data_bytes > 0 && view_.kind == "shard") {
      Complain(Code::kCorrupt, "its list of digests cannot be read, so its data cannot be checked");
    }
  }

  Health CheckChunk(std::uint64_t chunk, std::span<std::byte> buffer) {
    const ByteRange range = ChunkRange(chunk);
    const auto bytes = buffer.first(range.end - range.begin);
    if (!Read(view_.header_bytes + range.begin, bytes)) return Health::kDamaged;
    return DigestChunk(bytes) == digests_[chunk] ? Health::kGood : Health::kDamaged;
  }

  bool Read(std::uint64_t offset, std::span<std::byte> bytes) {
    const auto read = file_->ReadAt(offset, bytes);
    if (read && *read == bytes.size()) return true;
    const std::lock_guard lock(mutex_);
    if (!read)
      view_.problems.push_back(read.error());
    else
      Complain(Code::kIncomplete, base::Str("it ends at byte ", offset + *read, " while it is read"));
    return false;
  }

  void AddBad(ByteRange data) {
    const ByteRange range{view_.header_bytes + data.begin, view_.header_bytes + data.end};
    const bool adjoins = !data_bad_.empty() && data_bad_.back().end == data.begin;
    if (adjoins) {
      data_bad_.back().end = data.end;
      view_.bad.back().end = range.end;
    } else {
      data_bad_.push_back(data);
      view_.bad.push_back(range);
    }
  }

  void DescribeTensors() {
    for (const ShardEntry& entry : plan_.entries) {
      TensorView tensor{entry, view_.header_bytes + entry.data_offset, Health::kUnproven, {}};
      const std::uint64_t begin = entry.data_offset, end = entry.data_offset + entry.bytes;
      for (const ByteRange& bad : data_bad_) {
        if (bad.begin >= end || bad.end <= begin) continue;
        tensor.bad.push_back({std::max(bad.begin, begin) - begin, std::min(bad.end, end) - begin});
      }
      const bool proven = !digests_.empty() || entry.bytes == 0;
      const bool beyond = view_.header_bytes + end > view_.bytes;
      if (beyond)
        tensor.health = Health::kMissing;
      else if (!tensor.bad.empty())
        tensor.health = Health::kDamaged;
      else if (proven && view_.header != Health::kUnproven)
        tensor.health = view_.header == Health::kGood ? Health::kGood : Health::kUnproven;
      if (beyond && tensor.bad.empty()) tensor.bad.push_back({0, entry.bytes});
      view_.tensors.push_back(std::move(tensor));
    }
  }

  // One line for each stretch of bad data, with the tensors in it.
  void SayRanges() {
    constexpr std::size_t kNamed = 8;
    for (const ByteRange& range : data_bad_) {
      const bool missing = view_.header_bytes + range.end > view_.bytes;
      std::string text =
          base::Str("file bytes ", view_.header_bytes + range.begin, " to ", view_.header_bytes + range.end,
                    missing ? " are missing or incomplete" : " do not match their digests");
      std::size_t named = 0, more = 0;
      for (const TensorView& tensor : view_.tensors) {
        const std::uint64_t begin = tensor.entry.data_offset, end = begin + tensor.entry.bytes;
        if (begin >= range.end || end <= range.begin) continue;
        if (++named > kNamed) {
          ++more;
          continue;
        }
        text += base::Str(named == 1 ? ": " : ", ", tensor.entry.name, " bytes ", std::max(begin, range.begin) - begin,
                          " to ", std::min(end, range.end) - begin);
      }
      if (more > 0) text += base::Str(" and ", more, " more tensors");
      Complain(missing ? Code::kIncomplete : Code::kCorrupt, text);
    }
  }

  const std::unique_ptr<base::File> file_;  // ReadAt is pread: thread-safe on the machine's files
  const FileContext& context_;
  FileView& view_;
  ShardPlan plan_;
  std::vector<ChunkDigest> digests_;
  std::vector<Health> health_;       // by chunk
  std::vector<ByteRange> data_bad_;  // of the data
  std::mutex mutex_;                 // guards view_.problems while threads read
};

}  // namespace

void InspectShard(base::FileSystem& files, const std::string& path, const FileContext& context, FileView& view) {
  auto file = files.Open(path, {});
  if (!file) {
    view.problems.push_back(std::move(file).error());
    return;
  }
  ShardInspector(std::move(*file), context, view).Run();
}

}  // namespace belay::checkpoint::cli
