#include "checkpoint/daemon/service.h"

#include <cstdio>
#include <span>
#include <utility>

#include "checkpoint/daemon/restore_files.h"
#include "checkpoint/daemon/shard_writer.h"
#include "checkpoint/daemon/wire.h"
#include "runtime/base/log.h"

namespace belay::checkpoint {

namespace {

HubOptions HubOptionsOf(const ServiceOptions& options) {
  HubOptions hub;
  hub.welcome.set_protocol_version(kProtocolVersion);
  hub.welcome.set_belay_version(options.version);
  hub.welcome.set_pid(options.pid);
  hub.welcome.set_data_dir(options.data_dir);
  hub.welcome.set_instance(base::Str(options.instance));
  hub.daemon_uid = options.uid;
  hub.same_user_only = options.uid != 0 || options.core.is_private;
  return hub;
}

std::string OwnerName(const commit::JobKey& job) { return base::Str(job); }

}  // namespace

Service::Service(ServiceOptions options, base::FileSystem& files, base::Clock& clock, base::Listener& listener,
                 std::unique_ptr<base::Index> index, commit::Catalogue catalogue)
    : options_(std::move(options)),
      folders_(options_.data_dir),
      files_(files),
      clock_(clock),
      started_(clock.Now()),
      writer_name_(base::BulkWriterName(options_.data_dir)),
      index_(std::move(index)),
      publisher_(files, clock, folders_, *index_, options_.uid),
      staging_(options_.touch_threads),
      core_(options_.core, std::move(catalogue), clock.Now()),
      hub_(listener, HubOptionsOf(options_),
           {[this](commit::ConnectionId id, const base::Peer& peer) {
              Post(commit::ConnectionOpened{id, peer.uid, peer.pid});
            },
            [this](commit::RequestRef ref, const wire::Request& request) { RequestCame(ref, request); },
            [this](commit::ConnectionId id) { Post(commit::ConnectionClosed{id}); }}),
      openers_(1),
      publishing_(1),
      writers_(options_.writers) {}

Service::~Service() { hub_.Stop(); }

void Service::Stop() { Post(commit::StopSignal{}); }

void Service::Post(commit::Event event) {
  {
    const std::scoped_lock lock(mutex_);
    events_.push_back(std::move(event));
  }
  changed_.notify_one();
}

void Service::Run() {
  hub_.Start();
  while (!exiting_) {
    commit::Event event = commit::Tick{};
    {
      std::unique_lock lock(mutex_);
      const auto deadline = core_.NextDeadline();
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
    for (commit::Action& action : core_.Step(event, clock_.Now())) CarryOut(std::move(action));
  }
  hub_.Stop();
}

// On the connection's reading thread.
void Service::RequestCame(commit::RequestRef ref, const wire::Request& message) {
  auto request = FromWire(message);
  if (!request) return AnswerFailure(ref, request.error());
  commit::RequestArrived event{ref, *std::move(request), 0};
  if (std::holds_alternative<commit::BeginSnapshot>(event.request)) {
    if (const auto space = files_.Space(options_.data_dir)) event.disk_available_bytes = space->available_bytes;
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
  if (const auto* attached = std::get_if<commit::Attached>(&reply.body)) {
    const auto memory = staging_.Find(OwnerName(attached->job), attached->rank);
    auto descriptor = memory ? memory->Descriptor() : base::Fail(base::Code::kInternal, "no staging memory");
    if (!descriptor) return AnswerFailure(reply.ref, descriptor.error());
    descriptors.push_back(*std::move(descriptor));
  }
  if (response.has_daemon_report()) {
    // Asks the disk, which may hang: not on this thread.
    openers_.Submit([this, connection = reply.ref.connection, response = std::move(response)]() mutable {
      FillReport(*response.mutable_daemon_report());
      hub_.Send(connection, response, {});
    });
    return;
  }
  hub_.Send(reply.ref.connection, response, std::move(descriptors));
}

void Service::FillReport(wire::DaemonReport& report) {
  report.set_pid(options_.pid);
  report.set_belay_version(options_.version);
  report.set_data_dir(options_.data_dir);
  report.set_socket(options_.socket);
  report.set_uptime_seconds(std::chrono::duration<double>(clock_.Now() - started_).count());
  if (const auto space = files_.Space(options_.data_dir)) {
    report.set_disk_available_bytes(space->available_bytes);
    report.set_disk_total_bytes(space->total_bytes);
  }
  report.set_writer(writer_name_);
  report.set_private_(options_.core.is_private);
}

void Service::Perform(commit::AllocateStaging& order) {
  commit::StagingAllocated event{order.ref, order.job, order.rank, std::nullopt};
  if (auto made = staging_.Allocate(OwnerName(order.job), order.rank, order.bytes); !made) event.error = made.error();
  Post(std::move(event));
}

void Service::Perform(commit::FreeStaging& order) { staging_.Free(OwnerName(order.job), order.rank); }

void Service::Perform(commit::PersistGeneration& order) {
  publishing_.Submit([this, order = std::move(order)] { Post(publisher_.Persist(order)); });
}

void Service::Perform(commit::StartWrite& order) {
  // Held until the write ends, also if the pool frees it meanwhile.
  auto memory = staging_.Find(OwnerName(order.job), order.rank);
  writers_.Submit([this, memory = std::move(memory), order = std::move(order)] {
    const std::span<const std::byte> bytes = memory ? memory->bytes() : std::span<std::byte>();
    commit::WriteFinished written = WriteRankFiles(files_, clock_, folders_, order, bytes);
    publishing_.Submit([this, written = std::move(written), inspect_only = order.inspect_only] {
      if (!written.error && !inspect_only) publisher_.RecordPrepared(written);
      Post(written);
    });
  });
}

void Service::Perform(commit::PublishManifest& order) {
  publishing_.Submit([this, order = std::move(order)] {
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
  publishing_.Submit([this, order = std::move(order)] { Post(publisher_.Discard(order)); });
}

void Service::Perform(commit::DeleteCheckpoint& order) {
  publishing_.Submit([this, order = std::move(order)] { Post(publisher_.Delete(order)); });
}

void Service::Perform(commit::PersistPin& order) {
  publishing_.Submit([this, order = std::move(order)] { Post(publisher_.Pin(order)); });
}

void Service::Perform(commit::RebuildIndex& order) {
  publishing_.Submit([this, order = std::move(order)] { Post(publisher_.Rebuild(order)); });
}

void Service::Perform(commit::OpenFromMemory& order) {
  const auto find = [&](base::Rank rank) { return staging_.Find(OwnerName(order.job), rank); };
  auto opened = OpenMemoryFiles(order, find);
  if (!opened) return AnswerFailure(order.ref, opened.error());
  opened->response.set_id(order.ref.id);
  hub_.Send(order.ref.connection, opened->response, std::move(opened->descriptors));
}

void Service::Perform(commit::OpenFromDisk& order) {
  openers_.Submit([this, order = std::move(order)] {
    auto opened = OpenDiskFiles(files_, folders_.Checkpoint(order.job, order.id), order.files);
    if (!opened) return AnswerFailure(order.ref, opened.error());
    opened->response.set_id(order.ref.id);
    hub_.Send(order.ref.connection, opened->response, std::move(opened->descriptors));
  });
}

void Service::Perform(commit::Exit& order) {
  if (order.forced && options_.forced_exit) options_.forced_exit();
  exiting_ = true;
}

}  // namespace belay::checkpoint
