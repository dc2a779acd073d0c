#include "checkpoint/index/rocksdb_index.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::uint64_t kReserveBytes = 4 * base::kMiB;  // enough for thousands of batches and a compaction

// RocksDB's own words go to belayd's log. Its own log file would be one more thing to write to, and 7.8 aborts the
// process when it is written to a full disk.
class IndexLogger final : public rocksdb::Logger {
 public:
  IndexLogger() : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}
  using rocksdb::Logger::Logv;
  void Logv(const char* format, std::va_list words) override {
    std::array<char, 512> text{};
    std::vsnprintf(text.data(), text.size(), format, words);
    base::LogWarning("index", {{"rocksdb", std::string(text.data())}});
  }
};

rocksdb::Options IndexOptions() {
  rocksdb::Options options;
  options.info_log = std::make_shared<IndexLogger>();
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = 4 * base::kMiB;
  options.max_write_buffer_number = 2;  // more can flush out of order after a failed flush (fixed in 7.9)
  options.recycle_log_file_num = 0;
  options.track_and_verify_wals_in_manifest = false;  // reports corruption where there is none before 7.10
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.max_open_files = 64;
  options.max_background_jobs = 2;
  options.compression = rocksdb::kNoCompression;  // builds of RocksDB differ in what they can read
  return options;
}

base::Error Translate(const rocksdb::Status& status, const std::string& what) {
  Code code = Code::kIo;
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit)
    code = Code::kNoSpace;
  else if (status.IsCorruption())
    code = Code::kCorrupt;
  return base::Error{code, base::Str(what, ": ", status.ToString()), nullptr};
}

class RocksIndex final : public base::Index {
 public:
  RocksIndex(base::FileSystem& files, std::string directory) : files_(files), directory_(std::move(directory)) {}

  base::Status Open() {
    BELAY_TRY(base::MakeDirectories(files_, directory_));
    base::Status opened = OpenDatabase();
    if (!opened && opened.error().code == Code::kNoSpace) {
      // A daemon that cannot start could not even remove checkpoints.
      base::IgnoreError(files_.Remove(ReservePath()), "there may be none left");
      opened = OpenDatabase();
    }
    BELAY_TRY(opened);
    KeepReserve();
    return {};
  }

  base::Status Write(const base::IndexBatch& batch) override {
    const std::unique_lock lock(mutex_);
    base::Status written = WriteOnce(batch);
    if (written) return {};
    const bool was_full = written.error().code == Code::kNoSpace;
    // After a failed write RocksDB stays read-only; a fresh start, with the reserve given back if the disk was full,
    // tells whether it is over.
    if (was_full) base::IgnoreError(files_.Remove(ReservePath()), "there may be none left");
    if (auto opened = OpenDatabase(); !opened) return base::Wrap(written.error(), "the index cannot be opened again");
    base::Status again = WriteOnce(batch);
    if (again && was_full) base::LogWarning("index_used_its_reserve", {{"directory", directory_}});
    if (again) KeepReserve();
    return again;
  }

  base::Result<std::optional<std::string>> Get(std::string_view key) override {
    const std::shared_lock lock(mutex_);
    if (!db_) return base::Fail(Code::kIo, "the index in ", directory_, " is closed");
    std::string value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), rocksdb::Slice(key.data(), key.size()), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return tl::unexpected<base::Error>(Translate(status, "index read"));
    return std::optional<std::string>(std::move(value));
  }

  base::Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) override {
    const std::shared_lock lock(mutex_);
    if (!db_) return base::Fail(Code::kIo, "the index in ", directory_, " is closed");
    std::vector<std::pair<std::string, std::string>> pairs;
    const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(rocksdb::ReadOptions()));
    for (at->Seek(rocksdb::Slice(prefix.data(), prefix.size())); at->Valid(); at->Next()) {
      if (!at->key().starts_with(rocksdb::Slice(prefix.data(), prefix.size()))) break;
      pairs.emplace_back(at->key().ToString(), at->value().ToString());
    }
    if (!at->status().ok()) return tl::unexpected<base::Error>(Translate(at->status(), "index scan"));
    return pairs;
  }

 private:
  std::string ReservePath() const { return directory_ + ".reserve"; }

  base::Status OpenDatabase() {
    db_.reset();
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(IndexOptions(), directory_, &opened);
    if (!status.ok()) return tl::unexpected<base::Error>(Translate(status, "cannot open the index in " + directory_));
    db_.reset(opened);
    return {};
  }

  base::Status WriteOnce(const base::IndexBatch& batch) {
    if (!db_) return base::Fail(Code::kIo, "the index in ", directory_, " is closed");
    rocksdb::WriteBatch writes;
    for (const auto& operation : batch.operations()) {
      if (operation.value)
        writes.Put(operation.key, *operation.value);
      else
        writes.Delete(operation.key);
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    const rocksdb::Status status = db_->Write(options, &writes);
    if (!status.ok()) return tl::unexpected<base::Error>(Translate(status, "index write"));
    return {};
  }

  void KeepReserve() {
    if (base::Exists(files_, ReservePath())) return;
    const auto make = [this]() -> base::Status {
      BELAY_ASSIGN(auto file, files_.Open(ReservePath(), {.mode = base::OpenOptions::Mode::kCreateOrTruncate}));
      BELAY_TRY(file->Preallocate(kReserveBytes));
      return file->Close();
    };
    if (auto made = make(); !made) {  // better no reserve than half of one
      base::IgnoreError(files_.Remove(ReservePath()), "there may be none");
      base::LogWarning("index_without_reserve", {{"why", made.error().Text()}});
    }
  }

  base::FileSystem& files_;
  const std::string directory_;
  std::shared_mutex mutex_;  // exclusive while the database is written or replaced
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

base::Result<std::unique_ptr<base::Index>> OpenRocksIndex(base::FileSystem& files, const std::string& directory) {
  auto index = std::make_unique<RocksIndex>(files, directory);
  BELAY_TRY(index->Open());
  return std::unique_ptr<base::Index>(std::move(index));
}

}  // namespace belay::checkpoint
