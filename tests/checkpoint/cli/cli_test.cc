// `belay ckpt` and `belay daemon` as people and scripts call them: words in, stdout, stderr and exit status out.
#include <map>
#include <set>

#include "checkpoint/cli/arguments.h"
#include "checkpoint/cli/output.h"
#include "checkpoint/spread/data_folders.h"
#include "tests/checkpoint/cli/cli_harness.h"
#include "tests/checkpoint/client/belayd_process.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(OfflineTest, ListsNewestFirstAndSaysThatNobodyAnswered) {
  const Ran ran = Ckpt({"list"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.err, HasSubstr("no belayd answers; reading the files"));
  EXPECT_THAT(ran.out, testing::StartsWith("JOB"));
  for (const char* word :
       {"STEP", "GEN", "SIZE", "AGE", "REASON", "WORLD", "WHERE", "PIN", "other/vision", "interval"}) {
    EXPECT_THAT(ran.out, HasSubstr(word));
  }
  EXPECT_LT(ran.out.find(" 20 "), ran.out.find(" 10 "));

  const json document = Ckpt({"list", "gpt", "--json"}).document();
  EXPECT_EQ(document["schema_version"], 1);
  EXPECT_EQ(document["daemon"], false);
  ASSERT_EQ(document["checkpoints"].size(), 2U);
  const json& newest = document["checkpoints"][0];
  EXPECT_EQ(newest["step"], "20");  // 64-bit numbers are strings
  EXPECT_EQ(newest["generation"], "1");
  EXPECT_EQ(newest["world_size"], 2);
  EXPECT_EQ(newest["created"], "2026-01-02T03:04:05Z");
  EXPECT_EQ(newest["pinned"], false);
  EXPECT_EQ(newest["metrics"]["loss"], 1.5);
  EXPECT_EQ(newest["directory"], Folder(20));
}

TEST_F(OfflineTest, AMissingJobOrStepIsStatus66InBothForms) {
  const Ran job = Ckpt({"show", "absent", "--json"});
  EXPECT_EQ(job.status, 66);
  EXPECT_EQ(job.document()["error"]["name"], "NotFound");
  EXPECT_EQ(job.document()["error"]["code"], 101);
  EXPECT_EQ(job.document()["error"]["exit_status"], 66);
  EXPECT_EQ(job.document()["schema_version"], 1);
  const Ran step = Ckpt({"show", "gpt", "15"});
  EXPECT_EQ(step.status, 66);
  EXPECT_THAT(step.err, HasSubstr("it has 20, 10"));
  EXPECT_TRUE(step.out.empty());
  EXPECT_EQ(Ckpt({"list", "absent"}).status, 66);
}

TEST_F(OfflineTest, ShowsFilesDigestsAndTensors) {
  const Ran text = Ckpt({"show", "gpt", "--tensors"});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("step        20"), HasSubstr("rank-00001.optimizer.safetensors"),
                              HasSubstr("model.embedding"), HasSubstr("[1537, 1024]"), HasSubstr("6 tensors")));
  const json shown = Ckpt({"show", "gpt", "10", "--json"}).document()["checkpoint"];
  EXPECT_EQ(shown["step"], "10");
  EXPECT_EQ(shown["tensors"].size(), 6U);
  EXPECT_EQ(shown["files"][0]["header_sha256"].get<std::string>().size(), 64U);
  EXPECT_TRUE(shown["problems"].empty());
}

TEST_F(OfflineTest, VerifiesEveryByteAndNamesDamageWithStatus65) {
  EXPECT_EQ(Ckpt({"verify", "--all"}).status, 0);
  const std::string name = "rank-00001.optimizer.safetensors";
  Damage(Folder(10) + "/" + name);
  EXPECT_EQ(Ckpt({"verify", "gpt"}).status, 0);  // the newest
  const Ran one = Ckpt({"verify", "gpt", "10"});
  EXPECT_EQ(one.status, 65);
  EXPECT_THAT(one.out,
              AllOf(HasSubstr("damaged"), HasSubstr(name), HasSubstr("file bytes"), HasSubstr("tensor optimizer.")));
  const Ran all = Ckpt({"verify", "--all", "--json"});
  EXPECT_EQ(all.status, 65);
  const json document = all.document();
  EXPECT_EQ(document["ok"], false);
  EXPECT_EQ(document["exit_status"], 65);
  ASSERT_EQ(document["checked"].size(), 3U);
  EXPECT_EQ(document["checked"][1]["errors"][0]["name"], "Corrupt");
  EXPECT_EQ(document["checkpoints"], 3);
  EXPECT_EQ(document["damaged"], 1);
  EXPECT_EQ(document["bytes"], document["checked"][0]["bytes"].get<std::uint64_t>() * 2 +
                                   document["checked"][2]["bytes"].get<std::uint64_t>());
  EXPECT_THAT(Ckpt({"verify", "--all"}).out, HasSubstr("3 checkpoints, "));
  EXPECT_THAT(Ckpt({"verify", "--all", "--threads", "2"}).out, HasSubstr("2 good, 1 damaged"));
  const Ran directory = Belay("ckpt", {"verify", "--dir", Folder(10)});
  EXPECT_EQ(directory.status, 65);
  EXPECT_EQ(Belay("ckpt", {"verify", "--dir", Folder(20)}).status, 0);

  std::filesystem::remove(Folder(20) + "/rank-00000.model.safetensors");
  const Ran missing = Ckpt({"verify", "gpt"});
  EXPECT_EQ(missing.status, 65);
  EXPECT_THAT(missing.out, AllOf(HasSubstr("rank-00000.model.safetensors"), HasSubstr("missing")));
  std::filesystem::resize_file(Folder(10) + "/manifest.json", 100);
  EXPECT_EQ(Ckpt({"verify", "--all", "gpt"}).status, 65);
}

// The tensors of a plain safetensors file, name -> bytes.
std::map<std::string, std::string> ReadPlain(const std::string& path) {
  const std::string file = ReadAll(path);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const json header = json::parse(file.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["format"], "pt");
  std::map<std::string, std::string> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const std::uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    tensors[name] = file.substr(8 + length + begin, end - begin);
  }
  return tensors;
}

std::string Expected(const SampleTensor& tensor, std::int64_t step) {
  const auto bytes = GlobalBytes(tensor, step);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST_F(OfflineTest, VerifyKeepsBelowTheRate) {
  const json free = Ckpt({"verify", "gpt", "--json"}).document();
  const double bytes = free["bytes"].get<double>();
  // The last chunk of 4 MiB may begin at once, the others wait for those before them.
  const auto rate = static_cast<std::uint64_t>((bytes - 4.2e6) / 0.5);
  const json slow = Ckpt({"verify", "gpt", "--rate", std::to_string(rate), "--json"}).document();
  EXPECT_GE(slow["seconds"], 0.49);
  EXPECT_EQ(slow["ok"], true);
}

TEST_F(OfflineTest, ExportsPlainSafetensors) {
  const std::string to = scratch_.path() + "/out/export";
  const Ran ran = Ckpt({"export", "gpt", "10", "--to", to, "--strip-prefix", "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(ran.document()["tensors"], 4);
  const auto tensors = ReadPlain(to + "/model.safetensors");
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_TRUE(tensors.at("embedding") == Expected(SampleTensors()[0], 10));
  EXPECT_TRUE(tensors.at("bias") == Expected(SampleTensors()[1], 10));
  EXPECT_EQ(tensors.at("nothing"), "");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.path() + "/out"), {}), 1);  // nothing temporary

  const Ran again = Ckpt({"export", "gpt", "--to", to});
  EXPECT_EQ(again.status, 73);
  EXPECT_THAT(again.err, HasSubstr("exists"));
}

TEST_F(OfflineTest, ExportsEveryDtypeAsStockReadersKnowIt) {
  const auto files = test::SampleCheckpoint();
  const auto manifest = DecodeManifest(files.at("manifest.json"));
  ASSERT_TRUE(manifest) << manifest.error().Text();
  const std::string folder = scratch_.path() + "/" + manifest->project + "/" + manifest->job + "/" +
                             CheckpointDirectoryName(manifest->step, manifest->generation);
  std::filesystem::create_directories(folder);
  for (const auto& [name, bytes] : files) std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
  const std::string to = scratch_.path() + "/dtypes";
  const Ran ran = Ckpt({"export", manifest->job, "--project", manifest->project, "--to", to, "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err << ran.out;
  EXPECT_EQ(ran.document()["stored_as_u8"], json({"model.f8_e4m3", "model.f8_e5m2"}));

  const std::string file = ReadAll(to + "/model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const json header = json::parse(file.substr(8, length));
  const std::set<std::string> known = {"F64", "F32", "F16", "BF16", "I64", "I32",  "I16",
                                       "I8",  "U64", "U32", "U16",  "U8",  "BOOL", "C64"};
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    EXPECT_TRUE(known.contains(entry["dtype"])) << name << " " << entry;
  }
  EXPECT_EQ(header["model.c128"]["dtype"], "F64");
  EXPECT_EQ(header["model.c128"]["shape"], json({3, 2}));  // real and imaginary part
  EXPECT_EQ(header["model.c64"]["shape"], json({3}));
  const json true_dtypes = json::parse(header["__metadata__"]["belay.dtypes"].get<std::string>());
  EXPECT_EQ(true_dtypes, json({{"model.c128", "C128"}, {"model.f8_e4m3", "F8_E4M3"}, {"model.f8_e5m2", "F8_E5M2"}}));
  EXPECT_TRUE(ReadPlain(to + "/model.safetensors").at("model.c128") == test::SampleContent(DType::kC128, {3}));
}

TEST_F(OfflineTest, ExportsLargeModelsAsSeveralFilesWithAnIndex) {
  const std::string to = scratch_.path() + "/several";
  ASSERT_EQ(Ckpt({"export", "gpt", "--to", to, "--part", "optimizer", "--file-bytes-max", "1000"}).status, 0);
  const json index = json::parse(ReadAll(to + "/model.safetensors.index.json"));
  std::uint64_t total = 0;
  for (const SampleTensor& tensor : SampleTensors()) {
    if (tensor.part != "optimizer") continue;
    const std::string expected = Expected(tensor, 20);
    total += expected.size();
    const std::string file = index["weight_map"][tensor.FullName()];
    EXPECT_THAT(file, AllOf(HasSubstr("model-0000"), HasSubstr("-of-00002.safetensors")));
    EXPECT_TRUE(ReadPlain(to + "/" + file).at(tensor.FullName()) == expected) << tensor.FullName();
  }
  EXPECT_EQ(index["metadata"]["total_size"], total);
}

TEST_F(OfflineTest, ADamagedCheckpointLeavesNoExport) {
  Damage(Folder(20) + "/rank-00000.optimizer.safetensors");
  const std::string to = scratch_.path() + "/out/export";
  const Ran ran = Ckpt({"export", "gpt", "--to", to, "--part", "optimizer"});
  EXPECT_EQ(ran.status, 65);
  EXPECT_THAT(ran.err, HasSubstr("rank-00000.optimizer.safetensors"));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path() + "/out"));
  EXPECT_EQ(Ckpt({"export", "gpt", "--to", to, "--part", "absent"}).status, 66);
}

TEST_F(OfflineTest, ChangesGoThroughAPrivateDaemon) {
  const Ran pinned = Ckpt({"pin", "gpt", "10"});
  ASSERT_EQ(pinned.status, 0) << pinned.err;
  EXPECT_TRUE(std::filesystem::exists(Folder(10) + "/.pinned"));
  const Ran refused = Ckpt({"remove", "gpt", "10"});
  EXPECT_EQ(refused.status, 64);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("pinned"), HasSubstr("--force")));
  ASSERT_EQ(Ckpt({"unpin", "gpt", "10"}).status, 0);
  const Ran newest = Ckpt({"remove", "gpt", "latest"});
  EXPECT_EQ(newest.status, 64);
  EXPECT_THAT(newest.err, AllOf(HasSubstr("newest"), HasSubstr("--force")));
  const Ran removed = Ckpt({"remove", "gpt", "10", "--json"});
  ASSERT_EQ(removed.status, 0) << removed.err;
  EXPECT_EQ(removed.document()["action"], "removed");
  EXPECT_FALSE(std::filesystem::exists(Folder(10)));
  ASSERT_EQ(Ckpt({"remove", "gpt", "20", "--force"}).status, 0);
  EXPECT_FALSE(std::filesystem::exists(Folder(20)));

  WriteSampleCheckpoint(scratch_.path() + "/default/gpt", 30, 1);
  const Ran reindexed = Ckpt({"reindex", "--json"});
  ASSERT_EQ(reindexed.status, 0) << reindexed.err;
  EXPECT_EQ(reindexed.document()["checkpoints"], 2);
  EXPECT_EQ(Belay("daemon", {"stop", "--data-dir", scratch_.path()}).status, 0);
}

TEST_F(OfflineTest, StartsShowsAndStopsAPersistentDaemon) {
  const std::vector<std::string> where = {"--data-dir", scratch_.path(), "--socket", scratch_.path() + "/s"};
  const auto daemon = [&](std::vector<std::string> words) {
    words.insert(words.end(), where.begin(), where.end());
    return Belay("daemon", std::move(words));
  };
  const Ran none = daemon({"status", "--json"});
  EXPECT_EQ(none.status, 69);
  EXPECT_EQ(none.document()["error"]["name"], "Unavailable");
  const Ran started = daemon({"start", "--json"});
  ASSERT_EQ(started.status, 0) << started.err << started.out;
  EXPECT_EQ(started.document()["started"], true);
  EXPECT_EQ(started.document()["daemon"]["private"], false);
  const Ran again = daemon({"start", "--json"});
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(again.document()["started"], false);
  EXPECT_EQ(again.document()["daemon"]["pid"], started.document()["daemon"]["pid"]);
  const Ran status = daemon({"status"});
  EXPECT_THAT(status.out, AllOf(HasSubstr("belayd"), HasSubstr(scratch_.path()), HasSubstr("checkpoints  3")));
  const Ran listed = Belay("ckpt", {"list", "--socket", scratch_.path() + "/s", "--json"});
  EXPECT_EQ(listed.document()["daemon"], true);
  EXPECT_EQ(listed.document()["checkpoints"].size(), 3U);
  EXPECT_EQ(Belay("ckpt", {"verify", "gpt", "--socket", scratch_.path() + "/s"}).status, 0);
  const Ran stopped = daemon({"stop", "--json"});
  EXPECT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_EQ(stopped.document()["stopped"], true);
  EXPECT_EQ(daemon({"stop"}).status, 0);  // what was wanted is so
  EXPECT_EQ(daemon({"status"}).status, 69);
}

TEST_F(OfflineTest, RestartsADaemonInItsPlace) {
  const std::string socket = scratch_.path() + "/s";
  const auto daemon = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--socket", socket});
    return Belay("daemon", std::move(words));
  };
  EXPECT_EQ(daemon({"restart"}).status, 69) << "none runs";
  const Ran started = daemon({"start", "--data-dir", scratch_.path(), "--json"});
  ASSERT_EQ(started.status, 0) << started.err;
  EXPECT_THAT(daemon({"status"}).out, HasSubstr("restarted    never"));
  const Ran restarted = daemon({"restart"});
  EXPECT_EQ(restarted.status, 0) << restarted.err;
  EXPECT_THAT(restarted.out, AllOf(HasSubstr("belayd restarted: pid "), HasSubstr("0 snapshots")));
  const Ran again = daemon({"restart", "--json"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.document()["restarted"], true);
  EXPECT_EQ(again.document()["daemon"]["pid"], started.document()["daemon"]["pid"]);
  EXPECT_EQ(again.document()["daemon"]["restart"]["attempts"], 2);
  EXPECT_EQ(again.document()["daemon"]["restart"]["failure"], nullptr);
  EXPECT_EQ(again.document()["daemon"]["checkpoints"], 3);
  const Ran stopped = daemon({"stop", "--json"});
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_TRUE(base::PosixProcessSpawner().Wait(stopped.document()["pid"], std::nullopt));
}

TEST_F(OfflineTest, ARestartThatCannotBeIsAnErrorAndTheOldOneGoesOn) {
  const std::string socket = scratch_.path() + "/s";
  for (const auto& [fault, words] :
       std::map<std::string, std::string>{{"restart.before_check=io", "cannot take over: fault point"},
                                          {"restart.before_exec=io", "goes on as it was"}}) {
    ::setenv("BELAY_FAULTS", fault.c_str(), 1);
    const Ran started = Belay("daemon", {"start", "--data-dir", scratch_.path(), "--socket", socket});
    ::unsetenv("BELAY_FAULTS");
    ASSERT_EQ(started.status, 0) << started.err;
    const Ran restarted = Belay("daemon", {"restart", "--socket", socket});
    EXPECT_EQ(restarted.status, 69);
    EXPECT_THAT(restarted.err, HasSubstr(words));
    const Ran stopped = Belay("daemon", {"stop", "--socket", socket, "--json"});
    ASSERT_EQ(stopped.status, 0) << stopped.err;
    EXPECT_TRUE(base::PosixProcessSpawner().Wait(stopped.document()["pid"], std::nullopt));
  }
}

TEST_F(OfflineTest, ARestartThatKillsBelaydSaysSo) {
  const std::string socket = scratch_.path() + "/s";
  ::setenv("BELAY_FAULTS", "restart.after_exec=kill", 1);
  const Ran started = Belay("daemon", {"start", "--data-dir", scratch_.path(), "--socket", socket});
  ::unsetenv("BELAY_FAULTS");
  ASSERT_EQ(started.status, 0) << started.err;
  const Ran restarted = Belay("daemon", {"restart", "--socket", socket});
  EXPECT_EQ(restarted.status, 69);
  EXPECT_THAT(restarted.err, AllOf(HasSubstr("has ended over its restart"), HasSubstr("`belay daemon start`")));
}

TEST_F(OfflineTest, SeveralDataFoldersAreNamedOnceAndShownEverywhere) {
  const std::string drive = scratch_.path() + "-nvme1", second = scratch_.path() + "-nvme2";
  const std::vector<std::string> where = {"--data-dir", scratch_.path(), "--socket", scratch_.path() + "/s"};
  const auto daemon = [&](std::vector<std::string> words) {
    words.insert(words.end(), where.begin(), where.end());
    return Belay("daemon", std::move(words));
  };
  const Ran started = daemon({"start", "--also-data-dir", drive, "--also-data-dir", second, "--no-probe", "--json"});
  ASSERT_EQ(started.status, 0) << started.err << started.out;
  const json also = started.document()["daemon"]["also_data_dirs"];
  ASSERT_EQ(also.size(), 2U);
  EXPECT_EQ(also[0]["path"], drive);
  EXPECT_EQ(also[0]["retired"], false);
  EXPECT_EQ(also[0]["missing"], json());
  const json bulk = {{"block_bytes", 4 << 20}, {"queue_depth", 16}, {"source", "default"}, {"measured_at", json()}};
  EXPECT_EQ(also[0]["bulk"], bulk);
  EXPECT_EQ(started.document()["daemon"]["bulk"], bulk);
  EXPECT_EQ(daemon({"start", "--also-data-dir", drive}).status, 0) << "it has it";
  const Ran more = daemon({"start", "--also-data-dir", scratch_.path() + "-nvme3"});
  EXPECT_EQ(more.status, 73);
  EXPECT_THAT(more.err, HasSubstr("belay daemon stop"));
  EXPECT_THAT(daemon({"status"}).out,
              AllOf(HasSubstr("also         " + drive), HasSubstr("blocks of 4.0 MiB, 16 in flight (default)")));
  const json usage = Ckpt({"du", "--json"}).document();
  ASSERT_EQ(usage["also_data_dirs"].size(), 2U);
  EXPECT_EQ(usage["also_data_dirs"][1]["path"], second);
  ASSERT_EQ(daemon({"stop"}).status, 0);

  ASSERT_EQ(daemon({"start", "--drop-data-dir", second}).status, 0);
  EXPECT_THAT(daemon({"status"}).out, HasSubstr("not written to any more"));
  ASSERT_EQ(daemon({"stop"}).status, 0);
  std::filesystem::rename(drive, drive + ".away");
  const Ran refused = daemon({"start"});
  EXPECT_EQ(refused.status, 69);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("is its drive mounted?"), HasSubstr("--drop-data-dir")));
  const Ran du = Ckpt({"du"});
  EXPECT_EQ(du.status, 69);
  EXPECT_THAT(du.err, HasSubstr("is its drive mounted?"));
  for (const std::string& folder : {drive + ".away", second}) std::filesystem::remove_all(folder);
}

TEST_F(OfflineTest, FilesOnADriveThatIsNotThereAreNotCalledDamaged) {
  const std::string drive = scratch_.path() + "-nvme1";
  const std::string shard = "rank-00001.model.safetensors", place = drive + "/default/gpt/step-000000020.gen-1";
  std::filesystem::create_directories(place);
  std::filesystem::create_directories(drive + "/.belayd");
  std::ofstream(drive + "/.belayd/folder.json")
      << spread::EncodeMembership({std::string(32, '1'), std::string(32, 'a'), scratch_.path()});
  std::filesystem::rename(Folder(20) + "/" + shard, place + "/" + shard);
  std::filesystem::create_symlink(place + "/" + shard, Folder(20) + "/" + shard);
  EXPECT_EQ(Ckpt({"verify", "gpt"}).status, 0);
  EXPECT_EQ(Belay("ckpt", {"inspect", Folder(20)}).status, 0);
  EXPECT_EQ(Ckpt({"export", "gpt", "--to", scratch_.path() + "/exported"}).status, 0);

  std::filesystem::rename(drive, drive + ".away");
  std::filesystem::create_directory(drive);
  const Ran verify = Ckpt({"verify", "gpt"});
  EXPECT_EQ(verify.status, 69) << verify.out;
  EXPECT_THAT(verify.out, HasSubstr("is its drive mounted?"));
  const Ran inspect = Belay("ckpt", {"inspect", Folder(20)});
  EXPECT_EQ(inspect.status, 69) << inspect.out;
  EXPECT_THAT(inspect.out, HasSubstr("is its drive mounted?"));
  std::filesystem::remove(drive);
  std::filesystem::rename(drive + ".away", drive);

  std::filesystem::remove(place + "/" + shard);
  EXPECT_EQ(Ckpt({"verify", "gpt"}).status, 65) << "the drive is there and the file is not";
  EXPECT_EQ(Belay("ckpt", {"inspect", Folder(20)}).status, 65);
  std::filesystem::remove_all(drive);
}

TEST_F(OfflineTest, VerifyAllFindsWhatTheDaemonDoesNotList) {
  const std::string socket = scratch_.path() + "/s";
  std::filesystem::resize_file(Folder(10) + "/manifest.json", 100);
  ASSERT_EQ(Belay("daemon", {"start", "--data-dir", scratch_.path(), "--socket", socket}).status, 0);
  EXPECT_EQ(Belay("ckpt", {"list", "gpt", "--socket", socket, "--json"}).document()["checkpoints"].size(), 1U);
  const Ran all = Belay("ckpt", {"verify", "--all", "--socket", socket, "--json"});
  EXPECT_EQ(all.status, 65) << all.err;
  const json document = all.document();
  ASSERT_EQ(document["checked"].size(), 3U);
  EXPECT_EQ(document["checked"][2]["directory"], Folder(10));
  EXPECT_EQ(document["checked"][2]["ok"], false);
  EXPECT_EQ(Belay("ckpt", {"verify", "--all", "vision", "--project", "other", "--socket", socket}).status, 0);

  // Damaged while belayd knows it: named once.
  std::filesystem::resize_file(Folder(20) + "/manifest.json", 100);
  const json later = Belay("ckpt", {"verify", "--all", "--socket", socket, "--json"}).document();
  EXPECT_EQ(later["exit_status"], 65);
  EXPECT_EQ(later["checked"].size(), 3U);
  const Ran stopped = Belay("daemon", {"stop", "--socket", socket, "--json"});
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  // It removes its socket after it has answered: the folder can go once it has ended.
  EXPECT_TRUE(base::PosixProcessSpawner().Wait(stopped.document()["pid"], std::nullopt));
}

TEST_F(OfflineTest, ASocketOfTheEnvironmentMustAnswerLikeOneOfTheCommandLine) {
  const std::string socket = scratch_.path() + "/none";
  const auto list = [&] { return Ckpt({"list", "--json"}); };
  ::setenv("BELAY_SOCKET", "", 1);
  EXPECT_EQ(list().status, 0);  // names none
  ::setenv("BELAY_SOCKET", socket.c_str(), 1);
  const Ran named = list();
  ::unsetenv("BELAY_SOCKET");
  EXPECT_EQ(named.status, 69);
  EXPECT_THAT(named.out, HasSubstr(socket));
}

TEST_F(OfflineTest, ADaemonThatCannotStartIsQuotedWithItsOwnStatus) {
  const std::string file = scratch_.path() + "/a-file";
  std::ofstream(file) << "not a folder";
  for (const auto& [group, words] : std::map<std::string, std::vector<std::string>>{
           {"daemon", {"start", "--socket", scratch_.path() + "/s"}}, {"ckpt", {"reindex"}}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--data-dir", file + "/data"});
    const Ran ran = Belay(group, all);
    EXPECT_EQ(ran.status, 74) << ran.err;  // ENOTDIR
    EXPECT_THAT(ran.err, AllOf(HasSubstr("exit status 74"), HasSubstr("cannot use the data directory " + file)));
  }
}

TEST(CommandLineTest, WrongWordsAreStatus64WithAHint) {
  const auto fails = [](std::vector<std::string> words, const std::string& hint) {
    const Ran ran = Belay("ckpt", std::move(words));
    EXPECT_EQ(ran.status, 64) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr(hint));
    EXPECT_TRUE(ran.out.empty());
  };
  fails({"list", "--projet", "x"}, "did you mean --project?");
  fails({"list", "--projet", "x"}, "`belay ckpt list --help`");
  fails({"list", "-x"}, "unknown option -x");
  fails({"list", "--project", "a", "--project=b"}, "--project is given 2 times");
  fails({"list", "a", "b"}, "one word too many: b");
  fails({"list", "--data-dir"}, "data-dir");
  fails({"lst"}, "did you mean list?");
  fails({"show"}, "belay ckpt show JOB [STEP]");
  fails({"show", "gpt", "12x", "--data-dir", testing::TempDir()}, "STEP must be a whole number");
  fails({"show", "../etc", "--data-dir", testing::TempDir()}, "job");
  fails({"verify"}, "JOB [STEP], --all or --dir DIR");
  fails({"verify", "gpt", "--threads", "0"}, "--threads must be a whole number from 1");
  fails({"verify", "gpt", "--rate", "0"}, "--rate wants bytes");
  fails({"verify", "gpt", "--rate", "9999999T"}, "--rate wants bytes");
  fails({"verify", "gpt", "--rate", "1.5G"}, "--rate wants bytes");
  fails({"export", "gpt"}, "--to DIR");
  fails({"remove", "gpt"}, "STEP");
  fails({}, "Commands:");
  const Ran as_json = Belay("daemon", {"begin", "--json"});
  EXPECT_EQ(as_json.status, 64);
  EXPECT_EQ(as_json.document()["error"]["exit_status"], 64);
}

TEST(CommandLineTest, EveryVerbExplainsItself) {
  const std::map<std::string, std::vector<std::string>> verbs = {
      {"ckpt",
       {"list", "show", "inspect", "verify", "du", "pin", "unpin", "quarantine", "unquarantine", "trust", "remove",
        "export", "reindex", "bench"}},
      {"daemon", {"start", "stop", "restart", "status"}}};
  for (const auto& [group, names] : verbs) {
    const Ran all = Belay(group, {"--help"});
    EXPECT_EQ(all.status, 0);
    for (const std::string& name : names) {
      EXPECT_THAT(all.out, HasSubstr("  " + name + " "));
      const Ran help = Belay(group, {name, "--help"});
      EXPECT_EQ(help.status, 0);
      EXPECT_TRUE(help.err.empty());
      EXPECT_THAT(help.out, AllOf(testing::StartsWith("Usage: belay " + group + " " + name), HasSubstr("--json")));
      if (name == "inspect" || name == "bench") continue;  // ask nobody
      EXPECT_THAT(help.out, AllOf(HasSubstr("--data-dir DIR"), HasSubstr("--socket PATH")));
    }
  }
}

TEST(TableTest, AlignsColumnsAndLeavesNoTrailingBlanks) {
  cli::Table table({{"JOB"}, {"STEP", true}, {"PIN"}});
  table.Add({"a", "5", ""});
  table.Add({"longer", "1200", "yes"});
  EXPECT_EQ(table.Text(), "JOB     STEP  PIN\na          5\nlonger  1200  yes\n");
}

TEST(AgeTest, CountsFromRfc3339) {
  const auto now = base::WallTime(std::chrono::sys_days(std::chrono::year(2026) / 3 / 4) + std::chrono::hours(10));
  EXPECT_EQ(cli::AgeText("2026-03-04T09:59:15.250Z", now), "45s");
  EXPECT_EQ(cli::AgeText("2026-03-04T09:30:00Z", now), "30m");
  EXPECT_EQ(cli::AgeText("2026-03-03T22:00:00Z", now), "12h");
  EXPECT_EQ(cli::AgeText("2026-02-20T10:00:00Z", now), "12d");
  EXPECT_EQ(cli::AgeText("2026-03-05T10:00:00Z", now), "0s");  // a clock that was set back
  EXPECT_EQ(cli::AgeText("yesterday", now), "-");
}

}  // namespace
}  // namespace belay::checkpoint
