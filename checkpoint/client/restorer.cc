#include "checkpoint/client/restorer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "checkpoint/client/shard_reader.h"
#include "checkpoint/restore/planner.h"
#include "checkpoint/spread/reach.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Error;
using base::Fail;
using base::Result;
using base::Status;

// Runs `one(item, buffer)` for every item on up to `threads` threads, each with one chunk of buffer.
template <typename One>
void InParallel(std::size_t count, int threads, const One& one) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    std::vector<std::byte> buffer(kChunkBytes);
    for (std::size_t i = next++; i < count; i = next++) {
      if (!one(i, std::span<std::byte>(buffer))) next = count;
    }
  };
  std::vector<std::jthread> helpers;
  const auto wanted =
      std::clamp<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)), 1, std::max<std::size_t>(count, 1));
  for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
  work();
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += base::Str(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

class FileRestorer final : public Restorer {
 public:
  explicit FileRestorer(Manifest manifest) : manifest_(std::move(manifest)) {}

  // Takes in one file of the manifest. A file that cannot be read is remembered: what needs it fails and says so.
  void Add(const ManifestFile& file, Result<std::unique_ptr<ByteSource>> source) {
    if (!source) {
      Error error = std::move(source).error();
      const bool gone = error.code == Code::kNotFound;
      if (gone) error.code = Code::kIncomplete;
      return AddProblem(
          file.name,
          base::Wrap(std::move(error), gone ? "missing, though the manifest lists it: " : "cannot read ", file.name)
              .value());
    }
    if (file.kind == "records") {
      records_[file.rank] = {file, std::move(*source)};
      return;
    }
    auto reader = ShardReader::Open(manifest_, file, std::move(*source));
    if (!reader) return AddProblem(file.name, std::move(reader).error());
    for (const ShardEntry& entry : (*reader)->header().plan.entries) {
      const auto [found, added] = tensors_.try_emplace(entry.name, SavedTensor{entry.dtype, entry.global_shape});
      if (!added && (found->second.dtype != entry.dtype || found->second.global_shape != entry.global_shape)) {
        return AddProblem(file.name,
                          Error{Code::kCorrupt,
                                base::Str(file.name, " says that ", entry.name, " is ", DTypeName(entry.dtype),
                                          ShapeText(entry.global_shape), ", another file says ",
                                          DTypeName(found->second.dtype), ShapeText(found->second.global_shape)),
                                nullptr});
      }
    }
    readers_.push_back(std::move(*reader));
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::map<std::string, SavedTensor>& tensors() const override { return tensors_; }

  std::vector<Error> Problems() const override {
    std::vector<Error> errors;
    for (const auto& [name, problem] : problems_) errors.push_back(problem);
    return errors;
  }

  Result<RestoreStatistics> Load(const std::vector<Target>& targets, int threads) override {
    const base::SteadyTime start = base::SystemClock().Now();
    RestoreStatistics statistics;
    std::vector<WantedBox> wanted;
    for (const Target& target : targets) {
      wanted.push_back({target.name, target.dtype, target.global_shape, target.box});
      statistics.bytes_wanted += ElementCount(target.box) * DTypeBytes(target.dtype);
    }
    std::vector<const ShardPlan*> saved;
    for (const auto& reader : readers_) saved.push_back(&reader->header().plan);
    // One chunk a read: chunks are dealt out to the threads, and each thread holds one at most.
    auto reads = PlanReads(saved, wanted, kChunkBytes);
    if (!reads) return tl::unexpected<Error>(Explained(std::move(reads).error()));

    std::mutex mutex;
    std::optional<Error> failure;
    InParallel(reads->size(), threads, [&](std::size_t i, std::span<std::byte> buffer) {
      auto done = CarryOut((*reads)[i], targets, buffer);
      if (done) return true;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::move(done).error();
      return false;
    });
    if (failure) return tl::unexpected<Error>(std::move(*failure));
    for (const PlannedRead& read : *reads) statistics.bytes_read += read.bytes();
    statistics.seconds = std::chrono::duration<double>(base::SystemClock().Now() - start).count();
    return statistics;
  }

  Result<Records> LoadRecords(base::Rank rank) override {
    const auto found = records_.find(rank);
    if (found != records_.end()) return ReadRecords(found->second.file, *found->second.source);
    for (const ManifestFile& file : manifest_.files) {
      if (file.kind == "records" && file.rank == rank) return tl::unexpected<Error>(problems_.at(file.name));
    }
    return Fail(Code::kNotFound, "rank ", rank, " saved no records at step ", manifest_.step, " (world of ",
                manifest_.world_size, ")");
  }

  std::vector<Error> Verify(int threads, const BeforeRead& before_read) override {
    const auto about_to_read = [&](std::uint64_t bytes) {
      if (before_read) before_read(bytes);
    };
    std::vector<Error> errors = Problems();
    for (const auto& [rank, item] : records_) {
      about_to_read(item.file.bytes);
      if (auto records = ReadRecords(item.file, *item.source); !records) errors.push_back(std::move(records).error());
    }
    std::vector<std::pair<std::size_t, std::uint64_t>> chunks;  // file, chunk
    for (std::size_t file = 0; file < readers_.size(); ++file) {
      for (std::uint64_t chunk = 0; chunk < readers_[file]->header().digests.size(); ++chunk) {
        chunks.emplace_back(file, chunk);
      }
    }
    std::mutex mutex;
    std::map<std::size_t, Error> found;  // in file order, whichever thread is first
    InParallel(chunks.size(), threads, [&](std::size_t i, std::span<std::byte> buffer) {
      const auto [file, chunk] = chunks[i];
      const ShardReader& reader = *readers_[file];
      about_to_read(reader.ChunkSize(chunk));
      if (auto read = reader.ReadChunk(chunk, buffer.first(reader.ChunkSize(chunk))); !read) {
        const std::lock_guard lock(mutex);
        found.emplace(i, std::move(read).error());
      }
      return true;
    });
    for (auto& [i, error] : found) errors.push_back(std::move(error));
    return errors;
  }

 private:
  struct RecordsFile {
    ManifestFile file;
    std::unique_ptr<ByteSource> source;
  };

  // Do the runs take all of it, one after the other?
  static bool FillsChunk(const PlannedRead& read) {
    std::uint64_t at = read.data_begin;
    for (const TargetRun& run : read.runs) {
      if (run.run.source != at) return false;
      at += run.run.bytes;
    }
    return at == read.data_end;
  }

  void AddProblem(const std::string& file, Error error) { problems_.emplace(file, std::move(error)); }

  // What the planner misses may be in a file that cannot be read: then that file is the reason.
  Error Explained(Error planning) const {
    if (problems_.empty() || planning.code == Code::kInvalidArgument) return planning;
    return base::Wrap(problems_.begin()->second, planning.message).value();
  }

  Status CarryOut(const PlannedRead& read, const std::vector<Target>& targets, std::span<std::byte> buffer) const {
    const ShardReader& reader = *readers_[read.file];
    const std::uint64_t chunk = read.data_begin / kChunkBytes;
    const auto place = [&](const TargetRun& run) { return targets[run.target].data + run.run.destination; };
    // A chunk of which every byte is wanted once is read to where it belongs and digested there.
    if (FillsChunk(read)) {
      std::vector<std::span<std::byte>> places;
      for (const TargetRun& run : read.runs) places.emplace_back(place(run), run.run.bytes);
      return reader.ReadChunkInto(chunk, places);
    }
    BELAY_TRY(reader.ReadChunk(chunk, buffer.first(read.bytes())));
    for (const TargetRun& run : read.runs) {
      std::memcpy(place(run), buffer.data() + (run.run.source - read.data_begin), run.run.bytes);
    }
    return {};
  }

  const Manifest manifest_;
  std::vector<std::unique_ptr<ShardReader>> readers_;
  std::map<base::Rank, RecordsFile> records_;
  std::map<std::string, SavedTensor> tensors_;
  std::map<std::string, Error> problems_;  // by file
};

Result<std::unique_ptr<ByteSource>> SourceOf(OpenedFile file, bool from_memory) {
  if (!from_memory) return FileSource(base::FileFromDescriptor(std::move(file.descriptor), file.name), file.offset);
  return MemorySource(base::FileFromDescriptor(std::move(file.descriptor), file.name), file.offset, file.bytes);
}

// Opens what can be opened of `wanted`, which has the same kind throughout: a file that is gone must not hide the
// others.
void AddFromDaemon(Client& client, const CheckpointKey& key, bool from_memory, const std::vector<ManifestFile>& wanted,
                   FileRestorer& restorer) {
  std::vector<std::string> names;
  for (const ManifestFile& file : wanted) names.push_back(file.name);
  if (names.empty()) return;
  auto opened = client.OpenCheckpoint(key, from_memory, names);
  if (opened) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      restorer.Add(wanted[i], SourceOf(std::move(opened->files[i]), from_memory));
    }
    return;
  }
  for (const ManifestFile& file : wanted) {
    auto one = client.OpenCheckpoint(key, from_memory, {file.name});
    restorer.Add(file, one ? SourceOf(std::move(one->files.front()), from_memory)
                           : tl::unexpected<Error>(std::move(one).error()));
  }
}

}  // namespace

Result<std::unique_ptr<Restorer>> Restorer::Open(Client& client, const CheckpointKey& key, bool from_memory) {
  BELAY_ASSIGN(OpenedCheckpoint opened, client.OpenCheckpoint(key, from_memory, {}));
  CheckpointKey exact = key;
  exact.generation = opened.manifest.generation;
  std::vector<ManifestFile> shards, records;
  for (const ManifestFile& file : opened.manifest.files) (file.kind == "records" ? records : shards).push_back(file);
  auto restorer = std::make_unique<FileRestorer>(std::move(opened.manifest));
  AddFromDaemon(client, exact, from_memory, shards, *restorer);
  AddFromDaemon(client, exact, from_memory, records, *restorer);
  return std::unique_ptr<Restorer>(std::move(restorer));
}

Result<std::unique_ptr<Restorer>> Restorer::OpenDirectory(base::FileSystem& files, const std::string& directory) {
  auto text = base::ReadWholeFile(files, directory + "/" + std::string(kManifestName), kManifestBytesMax);
  if (!text) {
    if (text.error().code != Code::kNotFound) return tl::unexpected<Error>(std::move(text).error());
    return base::Wrap(std::move(text).error(), directory, " is not a committed checkpoint: it has no manifest");
  }
  auto manifest = DecodeManifest(*text);
  if (!manifest) return base::Wrap(std::move(manifest).error(), directory, "/", kManifestName);
  auto restorer = std::make_unique<FileRestorer>(std::move(*manifest));
  for (const ManifestFile& file : restorer->manifest().files) {
    const std::string path = directory + "/" + file.name;
    auto opened = files.Open(path, {});
    restorer->Add(file, opened ? FileSource(std::move(*opened), 0)
                               : Result<std::unique_ptr<ByteSource>>(
                                     tl::unexpected<Error>(spread::Explained(files, path, std::move(opened).error()))));
  }
  return std::unique_ptr<Restorer>(std::move(restorer));
}

}  // namespace belay::checkpoint
