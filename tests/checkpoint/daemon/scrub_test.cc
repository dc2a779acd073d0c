// belayd's scrubber from outside: what goes bad on disk is found, repaired or
// quarantined, and remembered.
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/marks.h"
#include "runtime/base/clock.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using Steps = std::vector<std::int64_t>;

// Passes follow each other without a pause.
const DaemonOptions kEager{.faults = "",
                           .arguments = {"--scrub-delay", "0", "--scrub-every", "0", "--scrub-rate", "1000000000000"}};

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void FlipByte(const std::string& path, std::int64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const char byte = static_cast<char>(file.get());
  file.seekp(offset);
  file.put(static_cast<char>(byte ^ 1));
}

// Asks the daemon until it is so; each question is an event, after which a due
// pass begins.
bool Until(RawClient& client, const std::function<bool()>& is_so) {
  const auto deadline = base::SystemClock().Now() + std::chrono::seconds(30);
  while (base::SystemClock().Now() < deadline) {
    if (is_so()) return true;
    if (client.List().broken) return false;
  }
  return false;
}

std::string QuarantineOf(RawClient& client, std::int64_t step) {
  const Answer listed = client.List();
  for (const auto& info : listed.response.checkpoint_list().checkpoints()) {
    if (info.checkpoint().step() == step) return info.quarantine();
  }
  return "not listed";
}

Steps StepsOffered(RawClient& client) {
  Steps steps;
  const Answer points = client.Points("gpt");
  for (const auto& point : points.response.restore_point_list().points()) steps.push_back(point.step());
  return steps;
}

class ScrubTest : public testing::Test {
 protected:
  // Saves steps 100 and 200 on two ranks, keeping two.
  void SaveTwo() {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 1, 2, 2);
    ASSERT_TRUE(Save(ranks, 100).ok());
    ASSERT_TRUE(Save(ranks, 200).ok());
    shard_ = ranks[1]->shard_name();
  }
  std::string Folder(std::int64_t step) const {
    return daemon_.data_dir() + "/default/gpt/" + CheckpointDirectoryName(base::Step(step), base::Generation(1));
  }
  DaemonUnderTest daemon_;
  std::string shard_;
};

TEST_F(ScrubTest, DamageOnDiskIsQuarantinedAndStaysSoThroughRestartAndReindex) {
  daemon_.Start({.faults = "", .arguments = {"--scrub-rate", "0"}});
  SaveTwo();
  ASSERT_EQ(daemon_.Stop(), 0);  // the memory goes
  FlipByte(Folder(200) + "/" + shard_, 10'000);
  daemon_.Start(kEager);
  {
    RawClient client(daemon_.socket());
    ASSERT_TRUE(Until(client, [&] { return !QuarantineOf(client, 200).empty(); }));
    EXPECT_NE(QuarantineOf(client, 200).find(shard_), std::string::npos) << QuarantineOf(client, 200);
    EXPECT_NE(QuarantineOf(client, 200).find("tensor model.w"), std::string::npos);
    EXPECT_EQ(StepsOffered(client), (Steps{100}));
    ASSERT_TRUE(
        Until(client, [&] { return std::filesystem::exists(Folder(200) + "/" + std::string(kQuarantinedName)); }));
  }
  EXPECT_NE(daemon_.LogText().find("scrub_found_damage"), std::string::npos);
  daemon_.Kill();
  std::filesystem::remove_all(daemon_.data_dir() + "/.belayd/index");
  daemon_.Start({.faults = "", .arguments = {"--scrub-rate", "0"}});
  RawClient client(daemon_.socket());
  EXPECT_EQ(StepsOffered(client), (Steps{100}));
  wire::Request reindex;
  reindex.mutable_reindex();
  ASSERT_TRUE(client.Ask(reindex).ok());
  EXPECT_EQ(StepsOffered(client), (Steps{100}));
  const Answer grant = client.BeginRun("gpt", 2);
  EXPECT_EQ(grant.response.run_grant().newest_step(), 100);

  // Two more good ones: 100 and 200 go, the good one not before the second.
  auto ranks = AttachAll(daemon_, "gpt", 2, 2, 2);
  ASSERT_TRUE(Save(ranks, 300).ok());
  EXPECT_EQ(StepsOffered(client), (Steps{300, 100}));
  ASSERT_TRUE(Save(ranks, 400).ok());
  ASSERT_TRUE(Until(client, [&] { return StepsListed(client, "gpt") == Steps({300, 400}); }));
}

TEST_F(ScrubTest, WhatIsStillInMemoryIsRepaired) {
  daemon_.Start(kEager);
  RawClient launcher(daemon_.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon_, "gpt", 1, 2, 2);
  ASSERT_TRUE(Save(ranks, 100).ok());
  const std::string path = Folder(100) + "/" + ranks[1]->shard_name();
  const std::string records = Folder(100) + "/rank-00000.state.json";
  const std::string good = ReadAll(path);
  FlipByte(path, 10'000);
  std::filesystem::remove(records);
  // Looked at from outside: a connection that restores would hold the scrubber up.
  ASSERT_TRUE(Until(launcher, [&] { return std::filesystem::exists(records) && ReadAll(path) == good; }));
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  EXPECT_EQ(QuarantineOf(launcher, 100), "");
  // The word for it comes after the deed.
  const std::string word = "repaired " + ranks[1]->shard_name();
  EXPECT_TRUE(Until(launcher, [&] { return daemon_.LogText().find(word) != std::string::npos; }));
  ASSERT_EQ(daemon_.Stop(), 0);
  EXPECT_TRUE(LeftOver(daemon_, "gpt", {100}).empty());
}

TEST_F(ScrubTest, AMarkIsSetAndLiftedByRequest) {
  daemon_.Start({.faults = "", .arguments = {"--scrub-rate", "0"}});
  SaveTwo();
  RawClient client(daemon_.socket());
  wire::Request request;
  wire::CheckpointKey& key = *request.mutable_quarantine_checkpoint()->mutable_checkpoint();
  key.mutable_key()->set_project("default");
  key.mutable_key()->set_job("gpt");
  key.set_step(100);
  request.mutable_quarantine_checkpoint()->set_reason("looks odd");
  ASSERT_TRUE(client.Ask(request).ok());
  EXPECT_EQ(QuarantineOf(client, 100), "looks odd");
  EXPECT_TRUE(std::filesystem::exists(Folder(100) + "/.quarantined"));
  request.mutable_quarantine_checkpoint()->set_reason("");
  ASSERT_TRUE(client.Ask(request).ok());
  EXPECT_EQ(QuarantineOf(client, 100), "");
  EXPECT_FALSE(std::filesystem::exists(Folder(100) + "/.quarantined"));
  ASSERT_TRUE(client.Ask(request).ok()) << "a second one finds nothing to do";
}

TEST_F(ScrubTest, AMarkThatIsKilledBeforeItIsWrittenIsFoundAgain) {
  daemon_.Start({.faults = "", .arguments = {"--scrub-rate", "0"}});
  SaveTwo();
  ASSERT_EQ(daemon_.Stop(), 0);
  FlipByte(Folder(100) + "/" + shard_, 10'000);
  DaemonOptions killed = kEager;
  killed.faults = "quarantine.before_mark=kill";
  EXPECT_EQ(daemon_.RunToEnd(killed), 128 + 9);
  EXPECT_FALSE(std::filesystem::exists(Folder(100) + "/.quarantined"));
  // The damaged file counts as read or not; the next pass comes to it in either
  // case.
  daemon_.Start(kEager);
  RawClient client(daemon_.socket());
  ASSERT_TRUE(Until(client, [&] { return !QuarantineOf(client, 100).empty(); }));
  EXPECT_EQ(StepsOffered(client), (Steps{200}));
}

TEST_F(ScrubTest, ThePassIsReportedAndNotRepeatedBeforeItsTime) {
  daemon_.Start({.faults = "", .arguments = {"--scrub-rate", "0"}});
  SaveTwo();
  ASSERT_EQ(daemon_.Stop(), 0);
  const auto report = [](RawClient& client) {
    wire::Request request;
    request.mutable_daemon_status();
    return client.Ask(request).response.daemon_report().scrub();
  };
  const std::vector<std::string> daily = {"--scrub-delay", "0", "--scrub-rate", "1000000000000"};
  std::string began;
  for (int start = 0; start < 2; ++start) {
    daemon_.Start({.faults = "", .arguments = daily});
    RawClient client(daemon_.socket());
    ASSERT_TRUE(Until(client, [&] { return !report(client).ended().empty(); }));
    EXPECT_EQ(report(client).files(), 8U);
    EXPECT_EQ(report(client).damaged(), 0U);
    EXPECT_FALSE(report(client).under_way());
    if (start == 0) began = report(client).began();
    EXPECT_EQ(report(client).began(), began) << "one pass a day, whatever is restarted";
    ASSERT_EQ(daemon_.Stop(), 0);
  }
}

TEST_F(ScrubTest, BadFlagsAreStatus64) {
  EXPECT_EQ(daemon_.RunToEnd({.faults = "", .arguments = {"--scrub-every", "-1"}}), 64);
  EXPECT_EQ(daemon_.RunToEnd({.faults = "", .arguments = {"--scrub-rate", "fast"}}), 64);
  EXPECT_EQ(daemon_.RunToEnd({.faults = "", .arguments = {"--scrub-delay", "nan"}}), 64);
}

}  // namespace
}  // namespace belay::checkpoint
