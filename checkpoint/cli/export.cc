#include "checkpoint/cli/export.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Fail;
using base::Result;
using base::Status;

// What is read, checked and written at once.
constexpr std::uint64_t kBufferBytes = 64 * base::kMiB;

struct Tensor {
  std::string name;      // in the checkpoint
  std::string exported;  // in the export
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes() const { return ElementCount(shape) * DTypeBytes(dtype); }
};

struct OutputFile {
  std::string name;
  std::vector<Tensor> tensors;  // in data order
};

bool StoredAsItself(DType dtype) { return StoredAs(dtype).dtype == DTypeName(dtype); }

Result<std::vector<Tensor>> ChooseTensors(const Restorer& restorer, const ExportOptions& options) {
  const std::string prefix = options.part + ".";
  std::vector<Tensor> chosen;
  std::set<std::string> parts;
  for (const auto& [name, tensor] : restorer.tensors()) {
    parts.insert(name.substr(0, name.find('.')));
    if (!name.starts_with(prefix)) continue;
    chosen.push_back(
        {name, options.strip_prefix ? name.substr(prefix.size()) : name, tensor.dtype, tensor.global_shape});
  }
  if (!chosen.empty()) return chosen;
  std::string known;
  for (const std::string& part : parts) known += (known.empty() ? "" : ", ") + part;
  return Fail(Code::kNotFound, "the checkpoint has no tensors in part ", options.part, "; it has ",
              known.empty() ? "none at all" : known);
}

// Fills files up to the limit in the order of names, so that neighbours stay together.
std::vector<OutputFile> ShareOut(std::vector<Tensor> tensors, std::uint64_t file_bytes_max) {
  std::vector<OutputFile> files(1);
  std::uint64_t filled = 0;
  for (Tensor& tensor : tensors) {
    if (!files.back().tensors.empty() && filled + tensor.bytes() > file_bytes_max) {
      files.emplace_back();
      filled = 0;
    }
    filled += tensor.bytes();
    files.back().tensors.push_back(std::move(tensor));
  }
  const auto number = [](std::size_t value) {
    const std::string digits = std::to_string(value);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  for (std::size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1
                        ? "model.safetensors"
                        : base::Str("model-", number(i + 1), "-of-", number(files.size()), ".safetensors");
    // As the reference writer does, so that every tensor is aligned to its elements.
    std::sort(files[i].tensors.begin(), files[i].tensors.end(), [](const Tensor& a, const Tensor& b) {
      return std::pair(DTypeBytes(b.dtype), std::cref(a.exported).get()) <
             std::pair(DTypeBytes(a.dtype), std::cref(b.exported).get());
    });
  }
  return files;
}

std::string HeaderOf(const OutputFile& file) {
  nlohmann::ordered_json header, true_dtypes;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const Tensor& tensor : file.tensors) {
    const Stored stored = StoredAs(tensor.dtype);
    std::vector<std::int64_t> shape = tensor.shape;
    if (stored.more != 0) shape.push_back(stored.more);
    header[tensor.exported] = {
        {"dtype", stored.dtype}, {"shape", shape}, {"data_offsets", {offset, offset + tensor.bytes()}}};
    if (!StoredAsItself(tensor.dtype)) true_dtypes[tensor.exported] = DTypeName(tensor.dtype);
    offset += tensor.bytes();
  }
  if (!true_dtypes.empty()) header["__metadata__"]["belay.dtypes"] = true_dtypes.dump();
  std::string json = header.dump();
  json.resize(base::AlignUp(8 + json.size(), 4096) - 8, ' ');
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>((json.size() >> (8 * i)) & 0xFF);
  return out + json;
}

// Boxes of at most `bytes_max` that tile the tensor in the order of its bytes (one element where even that is more).
void Slice(const Tensor& tensor, Box box, std::size_t dimension, std::uint64_t bytes_max, std::vector<Box>& out) {
  const std::uint64_t bytes = ElementCount(box) * DTypeBytes(tensor.dtype);
  if (bytes == 0) return;
  if (bytes <= bytes_max || dimension == box.lengths.size()) {
    out.push_back(std::move(box));
    return;
  }
  const std::int64_t length = box.lengths[dimension];
  const std::uint64_t row = bytes / static_cast<std::uint64_t>(length);
  const auto rows = static_cast<std::int64_t>(std::max<std::uint64_t>(bytes_max / row, 1));
  for (std::int64_t at = 0; at < length; at += rows) {
    Box part = box;
    part.offsets[dimension] = at;
    part.lengths[dimension] = std::min(rows, length - at);
    Slice(tensor, std::move(part), dimension + 1, bytes_max, out);
  }
}

class Writer {
 public:
  Writer(Restorer& restorer, int threads) : restorer_(restorer), threads_(threads), buffer_(kBufferBytes) {}

  Status Write(base::FileSystem& files, const std::string& path, const OutputFile& output) {
    BELAY_ASSIGN(file_, files.Open(path, {base::OpenOptions::Mode::kCreateExclusive, false, 0644}));
    const std::string header = HeaderOf(output);
    BELAY_TRY(file_->WriteAt(0, std::as_bytes(std::span(header))));
    position_ = header.size();
    for (const Tensor& tensor : output.tensors) {
      std::vector<Box> slices;
      Slice(tensor, WholeBox(tensor.shape), 0, kBufferBytes, slices);
      for (Box& slice : slices) {
        const std::uint64_t bytes = ElementCount(slice) * DTypeBytes(tensor.dtype);
        if (filled_ + bytes > buffer_.size()) BELAY_TRY(Flush());
        targets_.push_back({tensor.name, tensor.dtype, tensor.shape, std::move(slice), buffer_.data() + filled_});
        filled_ += bytes;
      }
    }
    BELAY_TRY(Flush());
    BELAY_TRY(file_->Sync());
    return file_->Close();
  }

 private:
  Status Flush() {
    if (targets_.empty()) return {};
    BELAY_TRY(restorer_.Load(targets_, threads_));
    BELAY_TRY(file_->WriteAt(position_, std::span<const std::byte>(buffer_).first(filled_)));
    position_ += filled_;
    filled_ = 0;
    targets_.clear();
    return {};
  }

  Restorer& restorer_;
  const int threads_;
  std::vector<std::byte> buffer_;
  std::vector<Target> targets_;  // what the buffer is to hold
  std::uint64_t filled_ = 0;
  std::unique_ptr<base::File> file_;
  std::uint64_t position_ = 0;
};

std::string IndexOf(const std::vector<OutputFile>& files, std::uint64_t total_bytes) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const OutputFile& file : files) {
    for (const Tensor& tensor : file.tensors) map[tensor.exported] = file.name;
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

Status WriteAll(Restorer& restorer, base::FileSystem& files, const std::string& directory,
                const std::vector<OutputFile>& outputs, int threads, ExportReport& report) {
  BELAY_TRY(files.MakeDirectory(directory, 0755));
  Writer writer(restorer, threads);
  for (const OutputFile& output : outputs) {
    BELAY_TRY(writer.Write(files, directory + "/" + output.name, output));
    report.files.push_back(output.name);
  }
  if (outputs.size() > 1) {
    const std::string name = "model.safetensors.index.json";
    BELAY_TRY(base::WriteFileDurably(files, directory + "/" + name, IndexOf(outputs, report.bytes), 0644));
    report.files.push_back(name);
  }
  return files.SyncDirectory(directory);
}

}  // namespace

Result<ExportReport> Export(Restorer& restorer, base::FileSystem& files, const std::string& directory,
                            const std::string& fresh_suffix, const ExportOptions& options) {
  if (base::Exists(files, directory)) {
    const auto content = files.List(directory);  // an empty folder is replaced by the rename
    if (!content || !content->empty()) {
      return Fail(Code::kAlreadyExists, directory, " exists: choose another --to, or remove it first");
    }
  }
  BELAY_ASSIGN(std::vector<Tensor> tensors, ChooseTensors(restorer, options));
  ExportReport report;
  report.tensors = tensors.size();
  for (const Tensor& tensor : tensors) {
    report.bytes += tensor.bytes();
    const bool as_u8 = StoredAs(tensor.dtype).dtype == DTypeName(DType::kU8);
    if (as_u8 && !StoredAsItself(tensor.dtype)) report.stored_as_u8.push_back(tensor.exported);
  }
  const std::vector<OutputFile> outputs = ShareOut(std::move(tensors), options.file_bytes_max);

  const std::string parent = base::ParentPath(directory);
  BELAY_TRY(base::MakeDirectories(files, parent, 0755));
  const std::string partial = directory + ".partial-" + fresh_suffix;
  Status written = WriteAll(restorer, files, partial, outputs, options.threads, report);
  if (written) written = files.Rename(partial, directory);
  if (!written) {
    base::IgnoreError(base::RemoveTree(files, partial), "the error that led here says more");
    return base::Wrap(std::move(written).error(), "cannot export to ", directory);
  }
  BELAY_TRY(files.SyncDirectory(parent));
  return report;
}

}  // namespace belay::checkpoint::cli
