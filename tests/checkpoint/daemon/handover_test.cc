#include "checkpoint/daemon/handover.h"

#include <gtest/gtest.h>

#include "runtime/base/error_codes.h"

namespace belay::checkpoint {
namespace {

using base::Code;

Handover Sample() {
  Handover handover;
  handover.version = "0.1";
  handover.lock = 5;
  handover.listener = 7;
  handover.attempts = 3;
  handover.left = base::SteadyTime(std::chrono::nanoseconds(123456789));
  handover.clients_awaited = true;
  commit::HandedJob job;
  job.key = {"vision", "gpt"};
  job.generation = base::Generation(4);
  job.world_size = 2;
  job.launcher = commit::Launcher{9, 4242, "node-1"};
  const commit::CheckpointId id{base::Generation(3), base::Step(100)};
  job.memory =
      commit::MemoryPoint{id, 2, "{}", Trust{TrustState::kSuspect, 2, base::Generation(3), "it failed twice"}, 1};
  commit::StagingSlot full;
  full.bytes = full.image_bytes = 8192;
  full.numa_node = 1;
  full.buffers.resize(2);
  full.buffers[1].holds = id;
  full.buffers[1].files = {
      {"rank-00000.model.safetensors", 0, 4096, StepAndGeneration{base::Step(50), base::Generation(2)}},
      {"rank-00000.optimizer.safetensors", 4096, 4000, {}}};
  full.buffers[1].records = std::make_shared<const std::string>(std::string("\0\xff", 2));
  full.former = commit::FormerHolder{base::Generation(4), 77};
  commit::StagingSlot empty;
  empty.bytes = 4096;
  empty.image_bytes = 16384;  // a window
  job.slots = {{base::Rank(0), full}, {base::Rank(1), empty}};
  handover.jobs.push_back({job, {11, 13, 12}});
  return handover;
}

TEST(HandoverTest, WhatIsEncodedDecodesToTheSame) {
  const auto decoded = DecodeHandover(EncodeHandover(Sample()));
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(decoded->version, "0.1");
  EXPECT_EQ(decoded->lock, 5);
  EXPECT_EQ(decoded->listener, 7);
  EXPECT_EQ(decoded->attempts, 3U);
  EXPECT_EQ(decoded->left, Sample().left);
  EXPECT_TRUE(decoded->clients_awaited);
  EXPECT_TRUE(decoded->left_out.empty());
  ASSERT_EQ(decoded->jobs.size(), 1U);
  EXPECT_EQ(decoded->jobs[0].descriptors, (std::vector<int>{11, 13, 12}));
  const commit::HandedJob& job = decoded->jobs[0].job;
  EXPECT_EQ(job.key, (commit::JobKey{"vision", "gpt"}));
  EXPECT_EQ(job.generation, base::Generation(4));
  EXPECT_EQ(job.world_size, 2);
  EXPECT_EQ(job.launcher->connection, 0U) << "a connection means nothing elsewhere";
  EXPECT_EQ(job.launcher->pid, 4242);
  EXPECT_EQ(job.launcher->host, "node-1");
  EXPECT_EQ(job.memory->id, (commit::CheckpointId{base::Generation(3), base::Step(100)}));
  EXPECT_EQ(job.memory->trust, Sample().jobs[0].job.memory->trust);
  EXPECT_EQ(job.memory->buffer, 1U);
  ASSERT_EQ(job.slots.size(), 2U);
  const commit::StagingSlot& full = job.slots[0].slot;
  EXPECT_EQ(full.bytes, 8192U);
  EXPECT_EQ(full.image_bytes, 8192U);
  EXPECT_EQ(full.numa_node, 1);
  ASSERT_EQ(full.buffers.size(), 2U);
  EXPECT_FALSE(full.buffers[0].holds);
  EXPECT_EQ(full.buffers[1].holds, job.memory->id);
  ASSERT_EQ(full.buffers[1].files.size(), 2U);
  EXPECT_EQ(full.buffers[1].files[0].origin, (StepAndGeneration{base::Step(50), base::Generation(2)}));
  EXPECT_EQ(full.buffers[1].files[1].offset, 4096U);
  EXPECT_FALSE(full.buffers[1].files[1].origin);
  EXPECT_EQ(*full.buffers[1].records, std::string("\0\xff", 2));
  EXPECT_EQ(full.former->pid, 77);
  EXPECT_FALSE(job.slots[1].slot.buffers.front().holds);
  EXPECT_FALSE(job.slots[1].slot.former);
  EXPECT_FALSE(job.slots[1].slot.numa_node);
  EXPECT_TRUE(job.slots[1].slot.IsWindow());
}

TEST(HandoverTest, AnotherVersionIsNotRead) {
  std::string record = EncodeHandover(Sample());
  record[8] = static_cast<char>(kHandoverVersion + 1);
  const auto decoded = DecodeHandover(record);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, Code::kFormatVersion);
}

TEST(HandoverTest, WhatIsCutOrLongerOrNoRecordIsRefused) {
  const std::string record = EncodeHandover(Sample());
  for (std::size_t bytes = 0; bytes < record.size(); ++bytes) {
    EXPECT_FALSE(DecodeHandover(record.substr(0, bytes))) << bytes;
  }
  EXPECT_FALSE(DecodeHandover(record + "x"));
  EXPECT_FALSE(DecodeHandover("X" + record.substr(1)));
}

TEST(HandoverTest, AJobThatHasNoRoomIsLeftOutAndNamed) {
  Handover handover = Sample();
  handover.jobs.push_back(handover.jobs[0]);
  handover.jobs[0].job.key.job = "large";
  handover.jobs[0].job.slots[0].slot.buffers[1].records = std::make_shared<const std::string>(5000, 'x');
  const std::string record = EncodeHandover(handover, 4000);
  EXPECT_LE(record.size(), 4000U);
  const auto decoded = DecodeHandover(record);
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(decoded->left_out, std::vector<std::string>{"vision/large"});
  ASSERT_EQ(decoded->jobs.size(), 1U);
  EXPECT_EQ(decoded->jobs[0].job.key.job, "gpt");
}

}  // namespace
}  // namespace belay::checkpoint
