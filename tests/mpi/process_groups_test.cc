#include "runtime/comm/process_groups.h"

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "runtime/comm/stop_vote.h"
#include "runtime/session/session_state.h"
#include "tests/mpi/world.h"

namespace belay::runtime {
namespace {

using tests::World;

// In NCCL's place, which needs GPUs.
class FakeNccl : public c10d::Backend {
 public:
  FakeNccl() : c10d::Backend(World().rank(), World().world_size()) {}
  const std::string getBackendName() const override { return "fake"; }
  void shutdown() override { at_shutdown(); }
  void abort() override { at_abort(); }

  std::function<void()> at_shutdown = [] { FAIL() << "shutdown"; };
  std::function<void()> at_abort = [] { FAIL() << "abort"; };
};

struct Groups {
  Groups() : nccl(c10::make_intrusive<FakeNccl>()) {
    groups.mpi = MpiBackend::Make(World().state().control().communicator(), {});
    groups.nccl = nccl;
  }
  bool MpiEnded() {
    try {
      groups.mpi->barrier({})->wait();
    } catch (const c10::Error& error) {
      return std::string(error.what()).find("was shut down") != std::string::npos;
    }
    return false;
  }
  c10::intrusive_ptr<FakeNccl> nccl;
  ProcessGroups groups;
};

TEST(ProcessGroupsTest, EndNcclWhileMpiStillWorks) {
  Groups test;
  int calls = 0;
  test.nccl->at_shutdown = [&] {
    ++calls;
    EXPECT_FALSE(test.MpiEnded());
  };
  EXPECT_TRUE(test.groups.Shutdown());
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(test.MpiEnded());
}

TEST(ProcessGroupsTest, EndMpiEvenIfNcclDoesNot) {
  Groups test;
  test.nccl->at_shutdown = [] { throw std::runtime_error("a GPU is gone"); };
  const auto ended = test.groups.Shutdown();
  EXPECT_FALSE(ended);
  if (!ended) {
    EXPECT_EQ(ended.error().code, base::Code::kCommunication);
    EXPECT_NE(ended.error().Text().find("a GPU is gone"), std::string::npos) << ended.error().Text();
  }
  EXPECT_TRUE(test.MpiEnded());
}

TEST(ProcessGroupsTest, AbortBothWithoutAWordToTheOthers) {
  Groups test;
  int calls = 0;
  test.nccl->at_abort = [&] {
    ++calls;
    throw std::runtime_error("not even that");
  };
  // The others come to it later, or never: here one after the other.
  for (int rank = 0; rank < World().world_size(); ++rank) {
    if (rank == World().rank()) {
      EXPECT_NO_THROW(test.groups.Abort());
    }
    EXPECT_TRUE(World().state().Barrier());
  }
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(test.MpiEnded());
}

TEST(ProcessGroupsTest, WorkWithoutNccl) {
  Groups test;
  test.groups.nccl = nullptr;
  EXPECT_TRUE(test.groups.Shutdown());
  EXPECT_TRUE(test.MpiEnded());
  EXPECT_NO_THROW(test.groups.Abort());
}

TEST(StopVoteTest, IsNotWaitedForPastADeadline) {
  if (World().world_size() == 1) return;
  auto vote = StopVote::Make(World().state().control().communicator());
  EXPECT_TRUE(vote.has_value());
  if (World().rank() == 0) {
    EXPECT_TRUE((*vote)->Start(true));
    const auto early = (*vote)->Read(base::SystemClock().Now() + std::chrono::milliseconds(50));
    EXPECT_FALSE(early.has_value());
    if (!early) {
      EXPECT_EQ(early.error().code, base::Code::kTimeout);
    }
    EXPECT_TRUE((*vote)->running());
  }
  EXPECT_TRUE(World().state().Barrier());
  if (World().rank() != 0) {
    EXPECT_TRUE((*vote)->Start(false));
  }
  const auto agreed = (*vote)->Read();
  EXPECT_TRUE(agreed.has_value() && *agreed);
  EXPECT_FALSE((*vote)->running());
}

}  // namespace
}  // namespace belay::runtime
