#include "checkpoint/daemon/probe_plan.h"

#include <gtest/gtest.h>

#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "runtime/base/sim/sim_clock.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using End = ProbeResult::End;
using std::chrono::hours;
using std::chrono::seconds;

const commit::JobKey kJob{"default", "gpt"};
const base::BulkShape kOther{base::kMiB, 32};

class ProbePlanTest : public testing::Test {
 protected:
  ProbePlanTest() { Restart({{1, {"/data"}, "d/1", std::nullopt}}); }
  void Restart(std::vector<ProbedDevice> devices, bool enabled = true) {
    plan_.emplace(ProbeOptions{.enabled = enabled}, std::move(devices), clock_.Now());
  }
  std::optional<std::string> Next() { return plan_->Next(state_, clock_.Now(), clock_.WallNow()); }
  std::optional<base::Duration> Wake() {
    const auto wake = plan_->Wake(clock_.Now(), clock_.WallNow());
    return wake ? std::optional(*wake - clock_.Now()) : std::nullopt;
  }
  const ProbedDevice* Finish(End end, base::BulkShape shape = {}) {
    ProbeResult result;
    result.end = end;
    result.record.shape = shape;
    return plan_->Finished(result, "0.2.0", clock_.WallNow());
  }
  std::int64_t UnixNow() { return std::chrono::duration_cast<seconds>(clock_.WallNow().time_since_epoch()).count(); }
  void BeginSave() { state_.jobs[kJob].snapshots[{}]; }
  void EndSave() { state_.jobs[kJob].snapshots.clear(); }

  base::SimClock clock_;
  commit::State state_;
  std::optional<ProbePlan> plan_;
};

TEST_F(ProbePlanTest, MeasuresOnceTheNodeIsIdle) {
  EXPECT_FALSE(Next());
  EXPECT_EQ(Wake(), seconds(10));
  clock_.Advance(seconds(10));
  EXPECT_EQ(Next(), "/data");
  EXPECT_FALSE(Next()) << "one at a time";
  EXPECT_FALSE(Wake()) << "its end is an event";
  const ProbedDevice* device = Finish(End::kMeasured, kOther);
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->record->shape, kOther);
  EXPECT_EQ(device->record->measured_unix, UnixNow());
  EXPECT_EQ(device->record->version, "0.2.0");
  EXPECT_FALSE(Next());
  EXPECT_EQ(Wake(), hours(1)) << "the wall clock is asked again";
  clock_.Advance(hours(30 * 24));
  EXPECT_EQ(Next(), "/data");
}

TEST_F(ProbePlanTest, ASaveBeginsTheIdleTimeAnew) {
  clock_.Advance(seconds(9));
  BeginSave();
  EXPECT_FALSE(Next());
  EXPECT_FALSE(Wake()) << "its end is an event";
  clock_.Advance(seconds(60));
  EndSave();
  EXPECT_FALSE(Next());
  EXPECT_EQ(Wake(), seconds(10));
  clock_.Advance(seconds(10));
  EXPECT_TRUE(Next());
}

TEST_F(ProbePlanTest, OneThatWasAbandonedWaitsTwiceAsLong) {
  clock_.Advance(seconds(10));
  ASSERT_TRUE(Next());
  EXPECT_EQ(Finish(End::kAbandoned), nullptr);
  EXPECT_EQ(Wake(), seconds(10));
  clock_.Advance(seconds(10));
  ASSERT_TRUE(Next());
  Finish(End::kAbandoned);
  EXPECT_EQ(Wake(), seconds(20));
}

TEST_F(ProbePlanTest, OneThatFailedOrWasLeftOutIsNotTriedAgainSoon) {
  for (const End end : {End::kFailed, End::kLeftOut}) {
    Restart({{1, {"/data"}, "d/1", std::nullopt}});
    clock_.Advance(seconds(10));
    ASSERT_TRUE(Next());
    EXPECT_EQ(Finish(end), nullptr);
    EXPECT_FALSE(plan_->devices().front().record);
    clock_.Advance(hours(29 * 24));
    EXPECT_FALSE(Next());
  }
}

TEST_F(ProbePlanTest, AKeptRecordCountsUntilItIsOldOrTheClockIsSetBack) {
  index::DeviceRecord kept{UnixNow(), "0.2.0", kOther, {}};
  Restart({{1, {"/data", "/data/more"}, "d/1", kept}, {2, {"/nvme1"}, "d/2", std::nullopt}});
  clock_.Advance(seconds(10));
  EXPECT_EQ(Next(), "/nvme1");
  Finish(End::kMeasured);
  EXPECT_FALSE(Next());
  kept.measured_unix = UnixNow() + 3600;
  Restart({{1, {"/data"}, "d/1", kept}});
  clock_.Advance(seconds(10));
  EXPECT_TRUE(Next());
}

TEST_F(ProbePlanTest, RestsWhenToldToAndWhenTheDaemonStops) {
  state_.stopping = true;
  clock_.Advance(seconds(10));
  EXPECT_FALSE(Next());
  EXPECT_FALSE(Wake());
  state_.stopping = false;
  Restart({{1, {"/data"}, "d/1", std::nullopt}}, false);
  clock_.Advance(seconds(10));
  EXPECT_FALSE(Next());
  EXPECT_FALSE(Wake());
}

TEST(FindDevicesTest, KnowsWhatWasMeasuredOfThem) {
  base::MemFileSystem files;
  ASSERT_TRUE(files.MakeDirectory("/data", 0700));
  base::MemoryIndex index;
  const auto devices = FindDevices(files, index::Folders("/data"), index);
  ASSERT_EQ(devices.size(), 1U);
  EXPECT_EQ(devices[0].folders, std::vector<std::string>{"/data"});
  EXPECT_FALSE(devices[0].record);
  const index::DeviceRecord record{1, "0.2.0", kOther, {}};
  base::IndexBatch batch;
  batch.Put(devices[0].key, index::EncodeDeviceRecord(record));
  ASSERT_TRUE(index.Write(batch));
  EXPECT_EQ(FindDevices(files, index::Folders("/data"), index).at(0).record, record);
  base::IndexBatch bad;
  bad.Put(devices[0].key, "{}");
  ASSERT_TRUE(index.Write(bad));
  EXPECT_FALSE(FindDevices(files, index::Folders("/data"), index).at(0).record) << "it is measured again";
}

}  // namespace
}  // namespace belay::checkpoint
