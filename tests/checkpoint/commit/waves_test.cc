// Ranks whose staging memory is a window on their state, as the core decides about them.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using base::Step;

constexpr std::uint64_t kImage = 1 << 20, kWindow = 64 << 10;
constexpr char kShard[] = "rank-00000.model.safetensors";
constexpr std::uint64_t kHeader = 4096;

TEST(ChooseWindowTest, IsAFairShareOfWhatIsFree) {
  const WindowDemand demand{.asked_bytes = 1 << 20,
                            .window_min_bytes = 8192,
                            .held_bytes = 100000,
                            .budget_bytes = 300000,
                            .ranks_to_come = 1};
  EXPECT_EQ(ChooseWindow(demand), 98304U) << "half of 200000, in whole pages";
  WindowDemand alone = demand;
  alone.ranks_to_come = 0;
  EXPECT_EQ(ChooseWindow(alone), 196608U);
  WindowDemand nothing = demand;
  nothing.held_bytes = 400000;
  EXPECT_EQ(ChooseWindow(nothing), 0U);
  WindowDemand large = demand;
  large.asked_bytes = 1ULL << 40;
  large.budget_bytes = 1ULL << 39;
  EXPECT_EQ(ChooseWindow(large), kWindowBytes) << "more is no faster";
}

class WavesCoreTest : public testing::Test {
 protected:
  static CoreConfig SmallBudget(std::uint64_t bytes) {
    CoreConfig config = CoreHarness::Config();
    config.memory_budget_bytes = bytes;
    return config;
  }
  explicit WavesCoreTest(std::uint64_t budget = 2 * kWindow) : core(SmallBudget(budget)) {
    launcher = core.Connect();
    generation = core.BeginRunOf(launcher, 1);
  }
  std::uint64_t AskToAttach(ConnectionId connection, std::uint64_t window_min = kWindow, std::uint64_t bytes = kImage) {
    Attach attach = CoreHarness::AttachOf(0, 1, generation, bytes);
    attach.window_bytes_min = window_min;
    return core.Ask(connection, attach);
  }
  void AttachWindow() {
    rank = core.Connect();
    attached = core.Answer<Attached>(AskToAttach(rank));
  }
  void Begin(std::int64_t step) { ASSERT_TRUE(core.Ok(core.Ask(rank, BeginSnapshot{Step(step), "interval"}))); }
  static WavePiece Piece(std::uint64_t file_offset, std::uint64_t bytes) {
    return {kShard, kHeader + 3 * 4096, file_offset, 0, bytes};
  }
  std::uint64_t Wave(std::int64_t step, WavePiece piece) { return core.Ask(rank, WriteWave{Step(step), piece}); }
  bool FinishWave(std::optional<base::Error> error = std::nullopt) {
    const auto order = core.Take<WriteWavePiece>();
    if (order) core.Send(WaveFinished{order->ref, order->job, order->id, order->rank, std::move(error)});
    return order.has_value();
  }
  // All three pages in two waves.
  void WriteAll(std::int64_t step) {
    for (const WavePiece& piece : {Piece(4096, 8192), Piece(12288, 4096)}) {
      const auto request = Wave(step, piece);
      ASSERT_TRUE(FinishWave());
      ASSERT_TRUE(core.Ok(request));
    }
  }
  std::uint64_t Seal(std::int64_t step, std::uint64_t bytes = kHeader + 3 * 4096) {
    SealSnapshot seal;
    seal.step = Step(step);
    seal.files = {{kShard, 0, bytes}};
    seal.records = "{}";
    return core.Ask(rank, seal);
  }

  CoreHarness core;
  ConnectionId launcher = 0, rank = 0;
  Generation generation;
  Attached attached;
};

TEST_F(WavesCoreTest, ARankThatTakesAWindowGetsOneWhereAllHasNoRoom) {
  const auto whole = core.Connect();
  EXPECT_EQ(core.CodeOf(AskToAttach(whole, 0)), Code::kNoSpace);
  EXPECT_EQ(core.CodeOf(AskToAttach(whole, 3 * kWindow)), Code::kNoSpace);
  EXPECT_EQ(core.CodeOf(AskToAttach(whole, ~std::uint64_t{0})), Code::kLimitExceeded);
  AttachWindow();
  EXPECT_EQ(attached.staging_bytes, 2 * kWindow);
  AttachWindow();
  EXPECT_TRUE(attached.reused);
  EXPECT_EQ(attached.staging_bytes, 2 * kWindow);
}

TEST_F(WavesCoreTest, ASaveInWavesIsCommittedAndNeverOfferedFromMemory) {
  AttachWindow();
  Begin(10);
  WriteAll(10);
  ASSERT_TRUE(core.Ok(Seal(10)));
  const auto write = core.Take<StartWrite>();
  ASSERT_TRUE(write);
  ASSERT_EQ(write->files.size(), 1U);
  EXPECT_EQ(write->files[0].streamed_from, kHeader);
  core.Send(WriteFinished{write->job, write->id, write->rank, std::nullopt, {InspectedFile{}}, 0.5});
  ASSERT_TRUE(core.FinishManifest());
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_FALSE(core.Points()[0].in_memory);
  EXPECT_TRUE(core.Points()[0].committed);
}

TEST_F(WavesCoreTest, WavesThatDoNotFollowEachOtherAreRefused) {
  AttachWindow();
  Begin(10);
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(0, 4096))), Code::kInvalidArgument) << "the header comes with the seal";
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(4097, 4096))), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(4096, 1 << 20))), Code::kInvalidArgument) << "past the file and the window";
  WavePiece outside = Piece(4096, 4096);
  outside.offset = 2 * kWindow;
  EXPECT_EQ(core.CodeOf(Wave(10, outside)), Code::kInvalidArgument);
  WavePiece foreign = Piece(4096, 4096);
  foreign.name = "rank-00001.model.safetensors";
  EXPECT_EQ(core.CodeOf(Wave(10, foreign)), Code::kInvalidArgument);
  foreign.name = "rank-00000.../../x.safetensors";
  EXPECT_EQ(core.CodeOf(Wave(10, foreign)), Code::kInvalidArgument);
  WavePiece huge = Piece(4096, 4096);
  huge.file_bytes = kImage + 1;
  EXPECT_EQ(core.CodeOf(Wave(10, huge)), Code::kInvalidArgument) << "more than was admitted";
  Wave(10, Piece(4096, 4096));
  FinishWave();
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(4096, 4096))), Code::kInvalidArgument) << "heard twice";
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(12288, 4096))), Code::kInvalidArgument) << "a hole";
  EXPECT_EQ(core.CodeOf(Wave(11, Piece(8192, 4096))), Code::kCancelled) << "another step";
  EXPECT_EQ(core.Count<WriteWavePiece>(), 0U);
}

TEST_F(WavesCoreTest, FilesTogetherMayNotBeMoreThanWasAdmitted) {
  AttachWindow();
  Begin(10);
  WavePiece one = Piece(4096, 4096);
  one.file_bytes = kImage / 2 + 4096;
  Wave(10, one);
  one.name = "rank-00000.optimizer.safetensors";
  EXPECT_EQ(core.CodeOf(Wave(10, one)), Code::kLimitExceeded);
}

TEST_F(WavesCoreTest, ASealBeforeAllWasWrittenFailsTheSave) {
  AttachWindow();
  Begin(10);
  Wave(10, Piece(4096, 4096));
  FinishWave();
  EXPECT_EQ(core.CodeOf(Seal(10)), Code::kIncomplete);
  ASSERT_TRUE(core.FinishDiscard());
  Begin(20);
  Wave(20, Piece(4096, 8192));
  EXPECT_EQ(core.CodeOf(Seal(20)), Code::kInvalidArgument) << "a wave is still under way";
  EXPECT_EQ(core.Count<DiscardFiles>(), 0U) << "its file is being written";
  ASSERT_TRUE(FinishWave());
  ASSERT_TRUE(core.FinishDiscard());
  Begin(30);
  WriteAll(30);
  SealSnapshot forgetful;
  forgetful.step = Step(30);
  forgetful.records = "{}";
  EXPECT_EQ(core.CodeOf(core.Ask(rank, forgetful)), Code::kIncomplete) << "a file that was written is not sealed";
}

TEST_F(WavesCoreTest, AFailedWaveFailsTheSaveAndLeavesNoMemoryPoint) {
  AttachWindow();
  Begin(10);
  const auto request = Wave(10, Piece(4096, 4096));
  ASSERT_TRUE(FinishWave(base::Error{Code::kNoSpace, "full", nullptr}));
  EXPECT_EQ(core.CodeOf(request), Code::kNoSpace);
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(8192, 4096))), Code::kNoSpace) << "why the step ended";
  EXPECT_EQ(core.Count<PublishManifest>(), 0U);
  ASSERT_TRUE(core.FinishDiscard());
  EXPECT_TRUE(core.Points().empty());
  Begin(20);
}

TEST_F(WavesCoreTest, ADiskThatFailsAtTheEndLeavesNoMemoryPointEither) {
  AttachWindow();
  Begin(10);
  WriteAll(10);
  ASSERT_TRUE(core.Ok(Seal(10)));
  ASSERT_TRUE(core.FinishWrite(base::Error{Code::kNoSpace, "full", nullptr}));
  EXPECT_EQ(core.Count<PublishManifest>(), 0U);
  ASSERT_TRUE(core.FinishDiscard());
  EXPECT_TRUE(core.Points().empty());
}

TEST_F(WavesCoreTest, ARankThatDiesInAWaveIsWaitedForByTheDisk) {
  AttachWindow();
  Begin(10);
  const auto request = Wave(10, Piece(4096, 4096));
  core.Disconnect(rank);
  EXPECT_EQ(core.Count<DiscardFiles>(), 0U) << "its file is being written";
  ASSERT_TRUE(FinishWave());
  EXPECT_FALSE(core.Answered(request));
  EXPECT_TRUE(core.FinishDiscard());
}

TEST_F(WavesCoreTest, TheDiskIsAskedForTheWholeState) {
  AttachWindow();
  core.disk_available = kImage;
  const auto refused = core.Ask(rank, BeginSnapshot{Step(10), "interval"});
  EXPECT_EQ(core.CodeOf(refused), Code::kNoSpace);
}

class WholeMemoryTest : public WavesCoreTest {
 protected:
  WholeMemoryTest() : WavesCoreTest(2 * kImage) {}
};

TEST_F(WholeMemoryTest, ARankWithAllItsMemoryHasNoWaves) {
  AttachWindow();
  EXPECT_EQ(attached.staging_bytes, kImage);
  Begin(10);
  EXPECT_EQ(core.CodeOf(Wave(10, Piece(4096, 4096))), Code::kInvalidArgument);
}

// Room for one rank's whole state and a window of another's.
TEST(MixedWavesTest, OneRankMayHaveAllItsMemoryAndAnotherAWindow) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = kImage + 3 * kWindow;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation generation = core.BeginRunOf(launcher, 2);
  std::vector<ConnectionId> ranks;
  std::vector<std::uint64_t> granted;
  for (int r = 0; r < 2; ++r) {
    ranks.push_back(core.Connect());
    Attach attach = CoreHarness::AttachOf(r, 2, generation, kImage);
    attach.window_bytes_min = kWindow;
    granted.push_back(core.Answer<Attached>(core.Ask(ranks.back(), attach)).staging_bytes);
  }
  EXPECT_EQ(granted, (std::vector<std::uint64_t>{kImage, 3 * kWindow}));
  core.Save(ranks, 10);  // the second rank's file fits into its window: it needs no wave
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_FALSE(core.Points()[0].in_memory) << "a window holds no snapshot";
}

TEST(MixedWavesTest, TheFirstRankDoesNotTakeWhatTheOthersNeedAtLeast) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = kImage + kWindow;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation generation = core.BeginRunOf(launcher, 3);
  std::uint64_t granted = 0;
  for (int r = 0; r < 3; ++r) {
    Attach attach = CoreHarness::AttachOf(r, 3, generation, kImage);
    attach.window_bytes_min = kWindow;
    granted += core.Answer<Attached>(core.Ask(core.Connect(), attach)).staging_bytes;
  }
  EXPECT_LE(granted, config.memory_budget_bytes);
}

TEST(MixedWavesTest, SmallMemoryOfAnEarlierRunCountsAsRanksToCome) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = kImage;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation small = core.BeginRunOf(launcher, 4);
  for (int r = 0; r < 4; ++r) core.Disconnect(core.AttachRank(r, 4, small, 8192));
  const Generation large = core.BeginRunOf(launcher, 4);
  for (int r = 0; r < 4; ++r) {
    Attach attach = CoreHarness::AttachOf(r, 4, large, 4 * kImage);
    attach.window_bytes_min = kImage / 4;
    EXPECT_GE(core.Answer<Attached>(core.Ask(core.Connect(), attach)).staging_bytes, kImage / 4) << r;
  }
}

TEST(MixedWavesTest, AWindowIsAllTheMemoryOnceThereIsRoom) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = 2 * kImage;
  CoreHarness core(config);
  const auto other = core.Connect();
  const JobKey another{"default", "other"};
  const Generation theirs = core.BeginRunOf(other, 1, 78, {}, another);
  core.AttachRank(0, 1, theirs, kImage + kImage / 2, {}, another);
  const auto launcher = core.Connect();
  const Generation generation = core.BeginRunOf(launcher, 1);
  const auto attach = [&] {
    Attach request = CoreHarness::AttachOf(0, 1, generation, kImage);
    request.window_bytes_min = kWindow;
    return core.Answer<Attached>(core.Ask(core.Connect(), request)).staging_bytes;
  };
  EXPECT_EQ(attach(), kImage / 2);
  EXPECT_EQ(attach(), kImage / 2);
  core.Ask(other, EndRun{another, theirs, "done"});
  for (ConnectionId id = 1; id < 4; ++id) core.Disconnect(id == launcher ? 0 : id);
  EXPECT_EQ(attach(), kImage);
}

}  // namespace
}  // namespace belay::checkpoint::commit
