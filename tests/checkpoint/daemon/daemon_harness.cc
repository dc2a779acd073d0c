#include "tests/checkpoint/daemon/daemon_harness.h"

#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "checkpoint/format/manifest.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint {

namespace {

constexpr std::int64_t kRows = 512;
constexpr std::int64_t kColumns = 1024;

// What element `index` of the tensor holds at `step`.
float ValueAt(std::int64_t step, std::int64_t index) { return static_cast<float>(step * 1000003 + index); }

RankLayout LayoutOf(int rank, int world) {
  const std::int64_t rows = kRows / world;
  return RankLayout{base::Rank(rank),
                    {{"model", {{"w", DType::kF32, {kRows, kColumns}, Box{{rank * rows, 0}, {rows, kColumns}}}}}}};
}

ShardPlan PlanOf(int rank, int world) {
  std::vector<RankLayout> layouts;
  for (int i = 0; i < world; ++i) layouts.push_back(LayoutOf(i, world));
  const auto pieces = Deal(layouts);
  EXPECT_TRUE(pieces) << pieces.error().Text();
  auto plans = PlanShards(layouts[static_cast<std::size_t>(rank)], pieces->at(static_cast<std::size_t>(rank)));
  EXPECT_TRUE(plans) << plans.error().Text();
  return plans->at(0);
}

std::string ReadDescriptor(const base::UniqueFd& fd, std::uint64_t offset, std::uint64_t bytes) {
  std::string text(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(fd.get(), text.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

void SetJob(wire::JobKey& key, const std::string& job) {
  key.set_project("default");
  key.set_job(job);
}

}  // namespace

// --- the daemon ---

DaemonUnderTest::DaemonUnderTest(std::string data_dir) {
  std::string pattern = std::filesystem::path(testing::TempDir()) / "belayd-XXXXXX";
  scratch_ = ::mkdtemp(pattern.data());
  data_dir_ = data_dir.empty() ? scratch_ + "/data" : std::move(data_dir);
  socket_ = scratch_ + "/s";
}

DaemonUnderTest::~DaemonUnderTest() {
  if (testing::Test::HasFailure()) std::cerr << "--- belayd.log\n" << LogText() << "---\n";
  Kill();
  std::filesystem::remove_all(scratch_);
}

pid_t DaemonUnderTest::Spawn(const DaemonOptions& options) {
  base::SpawnRequest request;
  request.argv = {options.program.empty() ? BELAYD_PROGRAM : options.program, "--data-dir", data_dir_, "--socket",
                  socket_};
  request.argv.insert(request.argv.end(), options.arguments.begin(), options.arguments.end());
  request.environment = base::WholeEnvironment();
  request.environment.erase("BELAY_FAULTS");
  request.inherited = options.inherited;
  if (!options.faults.empty()) request.environment["BELAY_FAULTS"] = options.faults;
  auto pid = base::PosixProcessSpawner().Spawn(std::move(request));
  EXPECT_TRUE(pid) << pid.error().Text();
  status_.reset();
  return pid.value_or(0);
}

void DaemonUnderTest::Start(const DaemonOptions& options) {
  pid_ = Spawn(options);
  const auto until = base::SystemClock().Now() + std::chrono::seconds(20);
  while (base::SystemClock().Now() < until) {
    if (base::UnixTransport().Connect(socket_, std::chrono::seconds(1))) return;
    const auto exited = base::PosixProcessSpawner().Wait(pid_, base::Duration(std::chrono::milliseconds(5)));
    if (exited && *exited) {
      status_ = (*exited)->status;
      break;
    }
  }
  ADD_FAILURE() << "belayd does not answer";
}

int DaemonUnderTest::RunToEnd(const DaemonOptions& options) {
  pid_ = Spawn(options);
  return WaitExit();
}

int DaemonUnderTest::WaitExit() {
  if (status_) return *status_;
  const auto exited = base::PosixProcessSpawner().Wait(pid_, base::Duration(std::chrono::seconds(20)));
  if (!exited || !*exited) return -1;
  status_ = (*exited)->status;
  return *status_;
}

void DaemonUnderTest::Signal(int signal) { ::kill(pid_, signal); }

int DaemonUnderTest::Stop() {
  Signal(SIGTERM);
  return WaitExit();
}

void DaemonUnderTest::Kill() {
  if (pid_ == 0 || status_) return;
  Signal(SIGKILL);
  WaitExit();
}

bool DaemonUnderTest::Running() {
  if (status_) return false;
  const auto exited = base::PosixProcessSpawner().Wait(pid_, base::Duration(0));
  if (exited && *exited) status_ = (*exited)->status;
  return !status_;
}

std::string DaemonUnderTest::LogText() const {
  std::ifstream in(data_dir_ + "/.belayd/belayd.log");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// --- clients ---

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  if (answer.broken) return out << "connection broken";
  return answer.ok() ? out << "ok" : out << answer.code() << " " << answer.response.failure().message();
}

RawClient::RawClient(const std::string& socket) {
  auto connection = base::UnixTransport().Connect(socket, std::chrono::seconds(5));
  if (!connection) return;
  wire::Hello hello;
  hello.set_protocol_version(1);
  hello.set_program("test");
  if (!(*connection)->Send({hello.SerializeAsString(), {}})) return;
  auto first = (*connection)->Receive(base::Duration(std::chrono::seconds(20)));
  if (!first || !*first || !welcome_.ParseFromString((*first)->body)) return;
  if (!welcome_.has_failure()) connection_ = *std::move(connection);
}

void RawClient::Post(wire::Request request) {
  if (!connection_) return;
  request.set_id(next_id_++);
  base::IgnoreError(connection_->Send({request.SerializeAsString(), {}}), "the answer will tell");
}

Answer RawClient::Receive() {
  Answer answer;
  answer.broken = true;
  if (!connection_) return answer;
  auto message = connection_->Receive(base::Duration(std::chrono::seconds(60)));
  if (!message || !*message) {
    connection_.reset();
    return answer;
  }
  answer.broken = !answer.response.ParseFromString((*message)->body);
  answer.descriptors = std::move((*message)->descriptors);
  return answer;
}

Answer RawClient::Ask(wire::Request request) {
  Post(std::move(request));
  return Receive();
}

Answer RawClient::BeginRun(const std::string& job, int world, std::uint64_t continues, int pid) {
  wire::Request request;
  wire::BeginRun& begin = *request.mutable_begin_run();
  SetJob(*begin.mutable_key(), job);
  begin.set_world_size(world);
  begin.set_host("here");
  begin.set_pid(pid);
  begin.set_continues(continues);
  return Ask(std::move(request));
}

Answer RawClient::List() {
  wire::Request request;
  request.mutable_list_checkpoints();
  return Ask(std::move(request));
}

Answer RawClient::Points(const std::string& job) {
  wire::Request request;
  SetJob(*request.mutable_restore_points()->mutable_key(), job);
  return Ask(std::move(request));
}

Answer RawClient::Open(const std::string& job, std::int64_t step, bool from_memory,
                       const std::vector<std::string>& files) {
  wire::Request request;
  wire::OpenCheckpoint& open = *request.mutable_open_checkpoint();
  SetJob(*open.mutable_checkpoint()->mutable_key(), job);
  open.mutable_checkpoint()->set_step(step);
  open.set_from_memory(from_memory);
  for (const std::string& file : files) open.add_files(file);
  return Ask(std::move(request));
}

// --- ranks ---

TestRank::TestRank(const std::string& socket, std::string job, std::uint64_t generation, int rank, int world,
                   std::uint32_t keep_last)
    : client_(socket),
      job_(std::move(job)),
      generation_(generation),
      rank_(rank),
      world_(world),
      plan_(PlanOf(rank, world)) {
  wire::Request request;
  wire::Attach& attach = *request.mutable_attach();
  SetJob(*attach.mutable_key(), job_);
  attach.set_generation(generation);
  attach.set_rank(rank);
  attach.set_world_size(world);
  attach.set_staging_bytes(plan_.FileBytes());
  attach.set_layout_fingerprint(LayoutFingerprint(LayoutOf(rank, world)));
  attach.mutable_retention()->set_keep_last(keep_last);
  attached_ = client_.Ask(std::move(request));
  if (!attached_.ok() || attached_.descriptors.size() != 1) return;
  auto mapping = base::MapSharedMemory(attached_.descriptors[0].get(), attached_.response.attached().staging_bytes(),
                                       base::MapAccess::kReadWrite);
  EXPECT_TRUE(mapping) << mapping.error().Text();
  staging_ = *std::move(mapping);
}

Answer TestRank::Begin(std::int64_t step) {
  wire::Request request;
  request.mutable_begin_snapshot()->set_step(step);
  request.mutable_begin_snapshot()->set_reason("interval");
  return client_.Ask(std::move(request));
}

void TestRank::Fill(std::int64_t step) {
  ASSERT_TRUE(staging_.valid());
  const auto data = staging_.bytes().subspan(plan_.header_bytes, plan_.data_bytes);
  const std::int64_t first = plan_.entries.at(0).box.offsets.at(0) * kColumns;
  for (std::size_t i = 0; i < data.size() / sizeof(float); ++i) {
    const float value = ValueAt(step, first + static_cast<std::int64_t>(i));
    std::memcpy(&data[i * sizeof(float)], &value, sizeof(float));
  }
  const ShardIdentity identity{"default",         job_,  base::Step(step), base::Generation(generation_),
                               base::Rank(rank_), world_};
  const auto header = EncodeShardHeader(plan_, identity, DigestChunks(data));
  ASSERT_TRUE(header) << header.error().Text();
  std::memcpy(staging_.bytes().data(), header->data(), header->size());
}

Answer TestRank::Seal(std::int64_t step) {
  wire::Request request;
  wire::SealSnapshot& seal = *request.mutable_seal_snapshot();
  seal.set_step(step);
  wire::SealedFile& file = *seal.add_files();
  file.set_name(plan_.file_name);
  file.set_bytes(plan_.FileBytes());
  seal.set_records(EncodeRecords({{"sampler", base::Str("at ", step)}}));
  (*seal.mutable_metrics())["loss"] = 1.0 / static_cast<double>(step);
  seal.set_parent_step(-1);
  return client_.Ask(std::move(request));
}

Answer TestRank::Wait(std::int64_t step, std::uint32_t deadline_ms) {
  wire::Request request;
  request.mutable_wait_snapshot()->set_step(step);
  request.mutable_wait_snapshot()->set_deadline_ms(deadline_ms);
  return client_.Ask(std::move(request));
}

Answer Save(std::vector<std::unique_ptr<TestRank>>& ranks, std::int64_t step) {
  for (auto& rank : ranks) {
    if (Answer answer = rank->Begin(step); !answer.ok()) return answer;
  }
  for (auto& rank : ranks) {
    rank->Fill(step);
    if (Answer answer = rank->Seal(step); !answer.ok()) return answer;
  }
  return ranks.at(0)->Wait(step);
}

std::vector<std::unique_ptr<TestRank>> AttachAll(const DaemonUnderTest& daemon, const std::string& job,
                                                 std::uint64_t generation, int world, std::uint32_t keep_last) {
  std::vector<std::unique_ptr<TestRank>> ranks;
  for (int rank = 0; rank < world; ++rank) {
    ranks.push_back(std::make_unique<TestRank>(daemon.socket(), job, generation, rank, world, keep_last));
  }
  return ranks;
}

// --- looking ---

std::string CheckContent(RawClient& client, const std::string& job, std::int64_t step, int world, bool from_memory) {
  std::vector<std::string> names;
  for (int rank = 0; rank < world; ++rank) {
    names.push_back(PlanOf(rank, world).file_name);
    names.push_back(RecordsFileName(base::Rank(rank)));
  }
  const Answer opened = client.Open(job, step, from_memory, names);
  if (!opened.ok()) return base::Str("cannot open step ", step, ": ", opened);
  const wire::OpenedCheckpoint& body = opened.response.opened_checkpoint();
  const auto manifest = DecodeManifest(body.manifest());
  if (!manifest) return manifest.error().Text();
  if (manifest->files.size() != names.size()) return "the manifest lists other files";
  if (opened.descriptors.size() != names.size()) return "not one descriptor a file";
  std::int64_t rows = 0;
  for (int i = 0; i < body.files_size(); ++i) {
    const std::string text =
        ReadDescriptor(opened.descriptors[static_cast<std::size_t>(i)], body.files(i).offset(), body.files(i).bytes());
    if (text.size() != body.files(i).bytes()) return body.files(i).name() + " is short";
    if (body.files(i).name().ends_with(".json")) {
      const auto records = DecodeRecords(text);
      if (!records || records->at("sampler") != base::Str("at ", step)) return body.files(i).name() + " is wrong";
      continue;
    }
    const auto bytes = std::as_bytes(std::span(text));
    const auto header = DecodeShardHeader(bytes);
    if (!header) return header.error().Text();
    const auto data = bytes.subspan(header->plan.header_bytes);
    if (DigestChunks(data) != header->digests) return body.files(i).name() + " does not match its digests";
    const ShardEntry& entry = header->plan.entries.at(0);
    for (std::size_t at = 0; at < data.size() / sizeof(float); ++at) {
      float value = 0;
      std::memcpy(&value, &data[at * sizeof(float)], sizeof(float));
      const std::int64_t index = entry.box.offsets.at(0) * kColumns + static_cast<std::int64_t>(at);
      if (value != ValueAt(step, index)) return base::Str(body.files(i).name(), " differs at element ", at);
    }
    rows += entry.box.lengths.at(0);
  }
  return rows == kRows ? "" : "rows are missing";
}

std::vector<std::int64_t> StepsListed(RawClient& client, const std::string& job) {
  std::vector<std::int64_t> steps;
  const Answer listed = client.List();
  EXPECT_TRUE(listed.ok()) << listed;
  for (const auto& info : listed.response.checkpoint_list().checkpoints()) {
    if (info.checkpoint().key().job() == job) steps.push_back(info.checkpoint().step());
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<std::string> LeftOver(const DaemonUnderTest& daemon, const std::string& job,
                                  const std::vector<std::int64_t>& listed) {
  std::vector<std::string> left;
  const std::filesystem::path folder = daemon.data_dir() + "/default/" + job;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    const auto id = ParseCheckpointDirectoryName(name);
    if (id && std::find(listed.begin(), listed.end(), id->step.value()) != listed.end()) continue;
    if (name != ".generation") left.push_back(name);
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".tmp" || entry.path().extension() == ".deleted") left.push_back(entry.path());
  }
  return left;
}

}  // namespace belay::checkpoint
