// A small training state whose every byte is known: for saving it by several ranks and looking at what comes back.
#pragma once

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/client/restorer.h"
#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/boxes.h"
#include "runtime/base/rng.h"

namespace belay::checkpoint {

struct SampleTensor {
  std::string part, name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  bool sharded = false;  // along dimension 0 among the ranks; else every rank holds all of it
  std::string FullName() const { return part + "." + name; }
};

// One tensor of several chunks that ranks hold alike, one that they share out, small ones, a scalar and an empty one.
inline std::vector<SampleTensor> SampleTensors() {
  return {{"model", "embedding", DType::kF32, {1537, 1024}, false},
          {"model", "bias", DType::kBF16, {129}, false},
          {"model", "steps", DType::kI64, {}, false},
          {"model", "nothing", DType::kF32, {0, 7}, false},
          {"optimizer", "moments", DType::kF32, {2051, 700}, true},
          {"optimizer", "mask", DType::kBool, {64, 3}, true}};
}

// Byte `i` of a tensor at a step: whoever restores another step, tensor or place notices.
inline std::vector<std::byte> GlobalBytes(const SampleTensor& tensor, std::int64_t step) {
  std::vector<std::byte> bytes(ElementCount(tensor.shape) * DTypeBytes(tensor.dtype));
  std::uint64_t seed = base::Mix64(static_cast<std::uint64_t>(step) + 1);
  for (const char c : tensor.FullName()) seed = base::Mix64(seed ^ static_cast<unsigned char>(c));
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = base::Mix64(seed + i);
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
  }
  return bytes;
}

inline Box BoxOf(const SampleTensor& tensor, int rank, int world) {
  Box box = WholeBox(tensor.shape);
  if (tensor.sharded) {
    const std::int64_t begin = tensor.shape[0] * rank / world;
    box.offsets[0] = begin;
    box.lengths[0] = tensor.shape[0] * (rank + 1) / world - begin;
  }
  return box;
}

// The bytes of the rows [first, first + rows) of a tensor's dimension 0; all of a scalar.
inline std::vector<std::byte> Rows(const std::vector<std::byte>& all, const SampleTensor& tensor, const Box& box) {
  if (tensor.shape.empty() || tensor.shape[0] == 0) return all;
  const std::uint64_t row = all.size() / static_cast<std::uint64_t>(tensor.shape[0]);
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row * static_cast<std::uint64_t>(box.offsets[0]));
  return {begin, begin + static_cast<std::ptrdiff_t>(row * static_cast<std::uint64_t>(box.lengths[0]))};
}

inline RankLayout LayoutOf(int rank, int world, bool frozen_model = false) {
  RankLayout layout{base::Rank(rank), {{"model", {}, frozen_model}, {"optimizer", {}}}};
  for (const SampleTensor& tensor : SampleTensors()) {
    layout.parts[tensor.part == "model" ? 0 : 1].tensors.push_back(
        {tensor.name, tensor.dtype, tensor.shape, BoxOf(tensor, rank, world)});
  }
  return layout;
}

// One rank's tensors in memory, and what it writes of them.
class SampleRank {
 public:
  SampleRank(int rank, int world, bool frozen_model = false) : rank_(rank), world_(world) {
    std::vector<RankLayout> layouts;
    for (int r = 0; r < world; ++r) layouts.push_back(LayoutOf(r, world, frozen_model));
    auto deal = Deal(layouts);
    EXPECT_TRUE(deal) << deal.error().Text();
    auto planned = PlanShards(layouts[static_cast<std::size_t>(rank)], (*deal)[static_cast<std::size_t>(rank)]);
    EXPECT_TRUE(planned) << planned.error().Text();
    plans = *planned;
    fingerprint = LayoutFingerprint(layouts[static_cast<std::size_t>(rank)]);
    for (const SampleTensor& tensor : SampleTensors()) {
      buffers_[tensor.FullName()].resize(ElementCount(BoxOf(tensor, rank, world)) * DTypeBytes(tensor.dtype));
    }
    for (const ShardPlan& plan : plans) {
      auto& list = sources.emplace_back();
      for (const ShardEntry& entry : plan.entries) list.push_back({Place(entry), entry.bytes});
    }
  }

  // Fills the tensors (of one part, if it is named) with what they are at `step`, in place.
  void Become(std::int64_t step, const std::string& part = "") {
    for (const SampleTensor& tensor : SampleTensors()) {
      if (!part.empty() && tensor.part != part) continue;
      const auto bytes = Rows(GlobalBytes(tensor, step), tensor, BoxOf(tensor, rank_, world_));
      auto& buffer = buffers_[tensor.FullName()];
      ASSERT_EQ(buffer.size(), bytes.size());
      if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
    }
  }

  std::vector<Target> Targets() {
    std::vector<Target> targets;
    for (const SampleTensor& tensor : SampleTensors()) {
      targets.push_back({tensor.FullName(), tensor.dtype, tensor.shape, BoxOf(tensor, rank_, world_),
                         buffers_[tensor.FullName()].data()});
    }
    return targets;
  }

  void ExpectIs(std::int64_t step, const std::string& part = "") {
    for (const SampleTensor& tensor : SampleTensors()) {
      if (!part.empty() && tensor.part != part) continue;
      EXPECT_TRUE(buffers_[tensor.FullName()] == Rows(GlobalBytes(tensor, step), tensor, BoxOf(tensor, rank_, world_)))
          << tensor.FullName() << " of rank " << rank_ << " is not what it was at step " << step;
    }
  }

  std::vector<ShardPlan> plans;
  std::vector<std::vector<Source>> sources;
  std::string fingerprint;

 private:
  const std::byte* Place(const ShardEntry& entry) {
    for (const SampleTensor& tensor : SampleTensors()) {
      if (tensor.FullName() != entry.name) continue;
      std::uint64_t skipped = 0;
      const Box box = BoxOf(tensor, rank_, world_);
      if (!entry.box.offsets.empty() && entry.box.lengths[0] > 0) {
        skipped = static_cast<std::uint64_t>(entry.box.offsets[0] - box.offsets[0]) *
                  (entry.bytes / static_cast<std::uint64_t>(entry.box.lengths[0]));
      }
      return buffers_[entry.name].data() + skipped;
    }
    ADD_FAILURE() << "no tensor " << entry.name;
    return nullptr;
  }

  const int rank_, world_;
  std::map<std::string, std::vector<std::byte>> buffers_;
};

// A folder of its own, gone at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    static int count = 0;
    path_ = testing::TempDir() + "belay-client-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A committed checkpoint as belayd would leave it, written by `world` ranks. The folder's path.
std::string WriteSampleCheckpoint(const std::string& job_folder, std::int64_t step, int world,
                                  std::uint64_t generation = 1);

}  // namespace belay::checkpoint
