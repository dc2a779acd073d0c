#include "checkpoint/daemon/service.h"

#include <algorithm>
#include <cstdio>
#include <span>
#include <system_error>
#include <utility>

#include "checkpoint/daemon/restore_files.h"
#include "checkpoint/daemon/shard_writer.h"
#include "checkpoint/daemon/wire.h"
#include "checkpoint/format/strict_json.h"
#include "checkpoint/index/other_folders.h"
#include "checkpoint/index/schema.h"
#include "runtime/base/host.h"
#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

namespace {

ScrubProgress StoredProgress(base::Index& index) {
  const auto stored = index.Get(index::kScrubKey);
  return stored && *stored ? DecodeScrubProgress(**stored) : ScrubProgress{};
}

std::string TimeText(std::int64_t unix_seconds) {
  return unix_seconds == 0 ? std::string() : base::Rfc3339(base::WallTime(std::chrono::seconds(unix_seconds)));
}

// "4.0 MiB x 16: write 1.2 GiB/s, read 2.0 GiB/s; ..." or why there are none.
std::string SpeedsText(const std::vector<index::ShapeSpeed>& speeds, const std::string& why_not) {
  std::string text = why_not;
  for (const index::ShapeSpeed& one : speeds) {
    text += base::Str(text.empty() ? "" : "; ", base::HumanBytes(one.shape.block_bytes), " x ", one.shape.queue_depth,
                      ": write ", base::HumanBytes(one.write), "/s, read ", base::HumanBytes(one.read), "/s");
  }
  return text;
}

void FillBulkReport(wire::BulkReport& report, const std::vector<ProbedDevice>& devices, const std::string& folder) {
  const auto device = std::ranges::find_if(
      devices, [&](const ProbedDevice& one) { return std::ranges::count(one.folders, folder) > 0; });
  const bool measured = device != devices.end() && device->record;
  const base::BulkShape shape = measured ? device->record->shape : base::BulkShape();
  report.set_block_bytes(shape.block_bytes);
  report.set_queue_depth(shape.queue_depth);
  if (measured) report.set_measured(TimeText(device->record->measured_unix));
}

}  // namespace

Service::Service(ServiceOptions options, base::FileSystem& files, base::Clock& clock, ServiceParts parts,
                 std::unique_ptr<base::Index> index, commit::Catalogue catalogue, std::vector<commit::HandedJob> handed)
    : options_(std::move(options)),
      folders_(options_.data_dir, options_.folders),
      files_(files),
      clock_(clock),
      started_(clock.Now()),
      index_(std::move(index)),
      publisher_(files, clock, folders_, *index_, options_.uid),
      core_(options_.core, std::move(catalogue), clock.Now()),
      scrub_plan_(options_.scrub, StoredProgress(*index_), clock.Now()),
      probe_plan_(options_.probe,
                  options_.probe.enabled ? FindDevices(files, folders_, *index_) : std::vector<ProbedDevice>(),
                  clock.Now()),
      gate_(clock, options_.scrub.bytes_per_second),
      lost_(options_.restart.lost),
      parts_(std::move(parts)) {
  for (const commit::HandedJob& job : handed) TakeUp(job);
  for (const ProbedDevice& device : probe_plan_.devices()) {
    if (device.record) files_.SetBulkShape(device.device, device.record->shape);
  }
}

Service::~Service() {
  parts_.clients->Stop();
  gate_.Close();
}

void Service::Stop() { Post(commit::Event(commit::StopSignal{})); }

void Service::Post(LoopEvent event) {
  {
    const std::scoped_lock lock(mutex_);
    events_.push_back(std::move(event));
  }
  changed_.notify_one();
}

void Service::Start() {
  parts_.clients->Start({[this](commit::ConnectionId id, const base::Peer& peer) {
                           Post(commit::ConnectionOpened{id, peer.uid, peer.pid});
                         },
                         [this](commit::RequestRef ref, const wire::Request& request) { RequestCame(ref, request); },
                         [this](commit::ConnectionId id) { Post(commit::ConnectionClosed{id}); }});
  WorkInBackground();
}

void Service::Run() {
  Start();
  while (!exiting_) {
    LoopEvent event = commit::Event(commit::Tick{});
    {
      const auto deadline = NextDeadline();
      std::unique_lock lock(mutex_);
      const auto ready = [this] { return !events_.empty(); };
      if (deadline)
        changed_.wait_until(lock, *deadline, ready);
      else
        changed_.wait(lock, ready);
      if (!events_.empty()) {
        event = std::move(events_.front());
        events_.pop_front();
      }
    }
    Handle(event);
  }
  parts_.clients->Stop();
  gate_.Close();
}

bool Service::Turn() {
  LoopEvent event = commit::Event(commit::Tick{});
  {
    const auto deadline = NextDeadline();
    const std::scoped_lock lock(mutex_);
    if (!events_.empty()) {
      event = std::move(events_.front());
      events_.pop_front();
    } else if (!deadline || *deadline > clock_.Now()) {
      return false;
    }
  }
  Handle(event);
  return true;
}

void Service::Handle(const LoopEvent& event) {
  std::visit([this](const auto& what) { Take(what); }, event);
  WorkInBackground();
}

std::optional<base::SteadyTime> Service::NextDeadline() {
  auto next = core_.NextDeadline();
  for (const auto& wake :
       {scrub_plan_.Wake(clock_.Now(), clock_.WallNow()), probe_plan_.Wake(clock_.Now(), clock_.WallNow())}) {
    if (wake) next = next ? std::min(*next, *wake) : *wake;
  }
  return next;
}

void Service::Take(const commit::Event& event) {
  for (commit::Action& action : core_.Step(event, clock_.Now())) CarryOut(std::move(action));
}

void Service::Take(const ScrubResult& result) {
  const auto damage = scrub_plan_.Finished(result);
  if (result.error) {
    base::LogWarning(
        damage ? "scrub_found_damage" : "scrub_could_not_read",
        {{"folder", folders_.Checkpoint(result.order.job, result.order.id)}, {"what", result.error->Text()}});
  }
  // The mark first: a crash in between costs reading the file again, not a day of not knowing.
  if (damage) Take(commit::Event(*damage));
  if (!result.is_given_up) StoreScrubProgress();
}

void Service::Take(const ProbeResult& result) {
  using End = ProbeResult::End;
  if (result.end == End::kLeftOut || result.end == End::kFailed) {
    base::Log(result.end == End::kFailed ? base::LogLevel::kWarning : base::LogLevel::kInfo, "device_not_measured",
              {{"folder", result.folder}, {"why", result.why}});
  }
  const ProbedDevice* device = probe_plan_.Finished(result, options_.version, clock_.WallNow());
  if (device == nullptr) return;
  base::LogInfo("device_measured", {{"folder", result.folder},
                                    {"block_bytes", device->record->shape.block_bytes},
                                    {"queue_depth", device->record->shape.queue_depth},
                                    {"speeds", SpeedsText(device->record->speeds, result.why)}});
  files_.SetBulkShape(device->device, device->record->shape);
  parts_.publishing->Submit([this, key = device->key, text = index::EncodeDeviceRecord(*device->record)] {
    publisher_.RecordDevice(key, text);
  });
}

// After every event: saves and restores come first.
void Service::WorkInBackground() {
  gate_.SetPaused(ScrubMustPause(core_.state()));
  Scrub();
  Probe();
}

void Service::Probe() {
  auto folder = probe_plan_.Next(core_.state(), clock_.Now(), clock_.WallNow());
  if (!folder) return;
  parts_.scrubbing->Submit([this, folder = *std::move(folder), pauses = gate_.Pauses()] {
    base::LetOthersGoFirst();
    Post(ProbeDevice(files_, clock_, folder, gate_, pauses));
  });
}

// The next file is read, if one is due.
void Service::Scrub() {
  const bool was_under_way = scrub_plan_.progress().under_way;
  auto order = scrub_plan_.Next(core_.state(), clock_.Now(), clock_.WallNow());
  const ScrubProgress& progress = scrub_plan_.progress();
  if (order) {
    parts_.scrubbing->Submit([this, order = *std::move(order)] {
      base::LetOthersGoFirst();
      Post(checkpoint::Scrub(files_, folders_.Checkpoint(order.job, order.id), order, gate_));
    });
  } else if (was_under_way && !progress.under_way) {
    base::LogInfo("scrubbed", {{"files", progress.files},
                               {"bytes", progress.bytes},
                               {"damaged", progress.damaged},
                               {"unreadable", progress.unreadable}});
    StoreScrubProgress();
  }
}

void Service::StoreScrubProgress() {
  parts_.publishing->Submit(
      [this, text = EncodeScrubProgress(scrub_plan_.progress())] { publisher_.RecordScrub(text); });
}

// On the connection's reading thread.
void Service::RequestCame(commit::RequestRef ref, const wire::Request& message) {
  auto request = FromWire(message);
  if (!request) return AnswerFailure(ref, request.error());
  commit::RequestArrived event{ref, *std::move(request), {}};
  if (std::holds_alternative<commit::BeginSnapshot>(event.request)) {
    event.space = index::SpaceOf(files_, folders_);
  }
  Post(std::move(event));
}

void Service::CarryOut(commit::Action action) {
  if (!action.reason.empty()) base::LogInfo("belayd", {{"what", action.reason}});
  std::visit([this](auto& what) { Perform(what); }, action.what);
}

void Service::AnswerFailure(const commit::RequestRef& ref, const base::Error& error) {
  commit::Reply reply{ref, error};
  Perform(reply);
}

void Service::Perform(commit::Reply& reply) {
  wire::Response response;
  response.set_id(reply.ref.id);
  std::vector<base::UniqueFd> descriptors;
  ToWire(reply.body, folders_, response);
  std::optional<StagingKey> handed_out;
  if (const auto* attached = std::get_if<commit::Attached>(&reply.body)) {
    handed_out = {OwnerName(attached->job), attached->rank};
  }
  if (const auto* begun = std::get_if<commit::Begun>(&reply.body); begun != nullptr && begun->buffer > 0) {
    handed_out = {OwnerName(begun->job), begun->rank, begun->buffer};
  }
  if (handed_out) {
    const auto memory = parts_.staging->Find(*handed_out);
    auto descriptor = memory ? memory->Descriptor() : base::Fail(base::Code::kInternal, "no staging memory");
    if (!descriptor) return AnswerFailure(reply.ref, descriptor.error());
    descriptors.push_back(*std::move(descriptor));
  }
  if (response.has_daemon_report()) {
    FillScrubReport(*response.mutable_daemon_report()->mutable_scrub());
    // Asks the disk, which may hang: not on this thread.
    parts_.openers->Submit([this, connection = reply.ref.connection, response = std::move(response),
                            devices = probe_plan_.devices()]() mutable {
      FillReport(*response.mutable_daemon_report(), devices);
      parts_.clients->Send(connection, response, {});
    });
    return;
  }
  parts_.clients->Send(reply.ref.connection, response, std::move(descriptors));
}

void Service::FillReport(wire::DaemonReport& report, const std::vector<ProbedDevice>& devices) {
  report.set_pid(options_.pid);
  report.set_belay_version(options_.version);
  report.set_data_dir(options_.data_dir);
  report.set_socket(options_.socket);
  report.set_uptime_seconds(std::chrono::duration<double>(clock_.Now() - started_).count());
  if (const auto space = files_.Space(options_.data_dir)) {
    report.set_disk_available_bytes(space->available_bytes);
    report.set_disk_total_bytes(space->total_bytes);
  }
  FillRestartReport(*report.mutable_restart());
  FillBulkReport(*report.mutable_bulk(), devices, options_.data_dir);
  for (const spread::OtherFolder& other : folders_.others()) {
    wire::DataFolder& folder = *report.add_also();
    folder.set_path(other.path);
    folder.set_retired(other.retired);
    FillBulkReport(*folder.mutable_bulk(), devices, other.path);
    if (const base::Status here = spread::CheckHere(files_, folders_.home_id(), other); !here) {
      folder.set_missing(here.error().Text());
      continue;
    }
    const auto space = files_.Space(other.path);
    if (!space) continue;
    folder.set_disk_available_bytes(space->available_bytes);
    folder.set_disk_total_bytes(space->total_bytes);
  }
  report.set_writer(options_.writer);
  report.set_private_(options_.core.is_private);
}

void Service::FillRestartReport(wire::RestartReport& report) const {
  const LastRestart& last = options_.restart;
  report.set_attempts(last.attempts);
  report.set_failure(ToUtf8(last.failure));
  report.set_from_version(ToUtf8(last.from_version));
  report.set_snapshots(taken_snapshots_);
  report.set_bytes(taken_bytes_);
  report.set_lost(ToUtf8(lost_));
  if (last.attempts > 0) report.set_away_seconds(std::chrono::duration<double>(started_ - last.left).count());
}

void Service::FillScrubReport(wire::ScrubReport& report) const {
  const ScrubProgress& progress = scrub_plan_.progress();
  report.set_bytes_per_second(scrub_plan_.options().bytes_per_second);
  report.set_under_way(progress.under_way);
  report.set_began(TimeText(progress.began_unix));
  report.set_ended(TimeText(progress.ended_unix));
  report.set_files(progress.files);
  report.set_bytes(progress.bytes);
  report.set_damaged(progress.damaged);
  report.set_unreadable(progress.unreadable);
}

void Service::Perform(commit::AllocateStaging& order) {
  commit::StagingAllocated event{order.ref, order.job, order.rank, std::nullopt, order.buffer};
  // A rank that waits for its first buffer can do with untouched pages; nobody waits for a further one.
  const bool when_touched = order.buffer > 0;
  Touched touched;
  if (when_touched) {
    touched = [this, event](const base::Status& status) {
      commit::StagingAllocated done = event;
      if (!status) done.error = status.error();
      Post(std::move(done));
    };
  }
  auto made = parts_.staging->Allocate({OwnerName(order.job), order.rank, order.buffer}, order.bytes, order.numa_node,
                                       std::move(touched));
  if (!made) event.error = made.error();
  if (!made || !when_touched) Post(std::move(event));
}

void Service::Perform(commit::FreeStaging& order) {
  parts_.staging->Free(OwnerName(order.job), order.rank, order.from_buffer);
}

void Service::Perform(commit::PersistGeneration& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Persist(order)); });
}

void Service::Perform(commit::StartWrite& order) {
  // Held until the write ends, also if the pool frees it meanwhile.
  auto memory = parts_.staging->Find({OwnerName(order.job), order.rank, order.buffer});
  parts_.writers->Submit([this, memory = std::move(memory), order = std::move(order)] {
    const std::span<const std::byte> bytes = memory ? memory->bytes() : std::span<std::byte>();
    commit::WriteFinished written = WriteRankFiles(files_, clock_, folders_, order, bytes);
    parts_.publishing->Submit([this, written = std::move(written), inspect_only = order.inspect_only] {
      if (!written.error && !inspect_only) publisher_.RecordPrepared(written);
      Post(written);
    });
  });
}

void Service::Perform(commit::WriteWavePiece& order) {
  auto memory = parts_.staging->Find({OwnerName(order.job), order.rank});
  parts_.waves->Submit([this, memory = std::move(memory), order = std::move(order)] {
    const std::span<const std::byte> bytes = memory ? memory->bytes() : std::span<std::byte>();
    Post(WriteWaveOf(files_, folders_, order, bytes));
  });
}

void Service::Perform(commit::PublishManifest& order) {
  parts_.publishing->Submit([this, order = std::move(order)] {
    commit::ManifestFinished finished = publisher_.Publish(order);
    if (!finished.error && !order.memory_only) {
      base::LogInfo("committed", {{"job", order.job},
                                  {"step", order.id.step.value()},
                                  {"generation", order.id.generation.value()},
                                  {"bytes", finished.info.bytes},
                                  {"ranks", order.world_size}});
    }
    Post(std::move(finished));
  });
}

void Service::Perform(commit::DiscardFiles& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Discard(order)); });
}

void Service::Perform(commit::DeleteCheckpoint& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Delete(order)); });
}

void Service::Perform(commit::PersistPin& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Pin(order)); });
}

void Service::Perform(commit::PersistQuarantine& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Quarantine(order)); });
}

void Service::Perform(commit::PersistTrust& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.MarkTrust(order)); });
}

void Service::Perform(commit::RepairFile& order) {
  // Held until the repair ends; the next snapshot may overwrite it, which the repair notices.
  auto memory = parts_.staging->Find({OwnerName(order.job), order.file.rank, order.file.buffer});
  parts_.scrubbing->Submit([this, memory = std::move(memory), order = std::move(order)] {
    const std::span<const std::byte> bytes = memory ? memory->bytes() : std::span<std::byte>();
    Post(Repair(files_, folders_.Checkpoint(order.job, order.id), order, bytes, gate_));
  });
}

void Service::Perform(commit::RebuildIndex& order) {
  parts_.publishing->Submit([this, order = std::move(order)] { Post(publisher_.Rebuild(order)); });
}

void Service::Perform(commit::OpenFromMemory& order) {
  const auto find = [&](const commit::MemoryFile& file) {
    return parts_.staging->Find({OwnerName(order.job), file.rank, file.buffer});
  };
  auto opened = OpenMemoryFiles(order, find);
  if (!opened) return AnswerFailure(order.ref, opened.error());
  opened->response.set_id(order.ref.id);
  parts_.clients->Send(order.ref.connection, opened->response, std::move(opened->descriptors));
}

void Service::Perform(commit::OpenFromDisk& order) {
  parts_.openers->Submit([this, order = std::move(order)] {
    auto opened = OpenDiskFiles(files_, folders_.Checkpoint(order.job, order.id), order.files);
    if (!opened) return AnswerFailure(order.ref, opened.error());
    opened->response.set_id(order.ref.id);
    parts_.clients->Send(order.ref.connection, opened->response, std::move(opened->descriptors));
  });
}

void Service::Perform(commit::Exit& order) {
  if (order.forced && options_.forced_exit) options_.forced_exit();
  exiting_ = true;
  restart_ = order.restart;
}

void Service::Perform(commit::CheckSuccessor& order) {
  const auto checked = [this, ref = order.ref](const base::Status& good) {
    Post(commit::Event(commit::SuccessorChecked{ref, good ? std::nullopt : std::optional<base::Error>(good.error())}));
  };
  if (!options_.check_successor) return checked(base::Fail(base::Code::kUnsupported, "this belayd cannot restart"));
  try {  // a thread of its own: a program that hangs must hold up nobody's restore
    trial_ = std::jthread([this, checked] { checked(options_.check_successor()); });
  } catch (const std::system_error& error) {
    checked(base::Fail(base::Code::kUnavailable, "the new belayd cannot be tried: ", error.what()));
  }
}

void Service::TakeUp(const commit::HandedJob& handed) {
  if (auto taken = core_.TakeUp(handed); !taken) {
    base::LogWarning("memory_not_taken_up", {{"job", handed.key}, {"why", taken.error().Text()}});
    lost_ += (lost_.empty() ? "" : "; ") + taken.error().Text();
    for (const auto& [rank, slot] : handed.slots) parts_.staging->Free(OwnerName(handed.key), rank, 0);
    return;
  }
  for (const auto& [rank, slot] : handed.slots) taken_bytes_ += slot.BytesHeld();
  if (handed.memory) ++taken_snapshots_;
}

std::optional<Service::Succession> Service::HandOver() const {
  if (!restart_) return std::nullopt;
  Succession next{core_.HandOver(), {}};
  for (commit::HandedJob& job : next.handed.jobs) {
    std::erase_if(job.slots, [&](const commit::HandedSlot& one) {
      for (std::size_t buffer = 0; buffer < one.slot.buffers.size(); ++buffer) {
        const StagingKey key{OwnerName(job.key), one.rank, buffer};
        auto memory = parts_.staging->Find(key);
        if (memory == nullptr) return true;  // its making had failed
        next.memory[key] = std::move(memory);
      }
      return false;
    });
  }
  return next;
}

}  // namespace belay::checkpoint
