#include "checkpoint/daemon/handover.h"

#include <set>
#include <utility>

#include "checkpoint/format/strict_json.h"
#include "checkpoint/protocol/handover.pb.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::string_view kMagic = "BELAYHND";

void AppendNumber(std::string& text, std::uint32_t number) {
  for (int shift = 0; shift < 32; shift += 8) text.push_back(static_cast<char>((number >> shift) & 0xFF));
}

std::uint32_t NumberAt(std::string_view text, std::size_t offset) {
  std::uint32_t number = 0;
  for (std::size_t i = 0; i < 4; ++i) number |= std::uint32_t{static_cast<unsigned char>(text[offset + i])} << (8 * i);
  return number;
}

void ToWire(const commit::StagingBuffer& buffer, wire::HandedMemory& memory) {
  if (!buffer.holds) return;
  wire::HandedContent& content = *memory.mutable_content();
  content.set_step(buffer.holds->step.value());
  content.set_generation(buffer.holds->generation.value());
  for (const commit::SealedFile& file : buffer.files) {
    wire::HandedFile& one = *content.add_files();
    one.set_name(file.name);
    one.set_offset(file.offset);
    one.set_bytes(file.bytes);
    if (file.origin) {
      one.set_origin_step(file.origin->step.value());
      one.set_origin_generation(file.origin->generation.value());
    }
  }
  if (buffer.records != nullptr) content.set_records(*buffer.records);
}

void ToWire(const commit::StagingSlot& slot, wire::HandedMemory& memory) {
  memory.set_image_bytes(slot.image_bytes);
  if (slot.numa_node) memory.set_numa_node(*slot.numa_node);
  if (slot.former) {
    memory.set_mapped_by_generation(slot.former->generation.value());
    memory.set_mapped_by_pid(slot.former->pid);
  }
}

void ToWire(const Handover::Job& from, wire::HandedJob& to) {
  const commit::HandedJob& job = from.job;
  to.set_project(job.key.project);
  to.set_job(job.key.job);
  to.set_generation(job.generation.value());
  to.set_world_size(job.world_size);
  if (job.launcher) {
    to.mutable_launcher()->set_pid(job.launcher->pid);
    to.mutable_launcher()->set_host(ToUtf8(job.launcher->host));
  }
  if (job.memory) {
    wire::HandedSnapshot& snapshot = *to.mutable_snapshot();
    snapshot.set_step(job.memory->id.step.value());
    snapshot.set_generation(job.memory->id.generation.value());
    snapshot.set_world_size(job.memory->world_size);
    snapshot.set_buffer(static_cast<std::uint32_t>(job.memory->buffer));
    snapshot.set_manifest(job.memory->manifest);
    snapshot.set_trust(static_cast<std::uint32_t>(job.memory->trust.state));
    snapshot.set_failed_resumes(job.memory->trust.failed_resumes);
    snapshot.set_judged_by(job.memory->trust.judged_by.value());
    snapshot.set_trust_reason(ToUtf8(job.memory->trust.reason));
  }
  std::size_t descriptor = 0;
  for (const auto& [rank, slot] : job.slots) {
    for (std::size_t buffer = 0; buffer < slot.buffers.size(); ++buffer) {
      wire::HandedMemory& memory = *to.add_memories();
      memory.set_rank(rank.value());
      memory.set_number(from.descriptors.at(descriptor++));
      memory.set_bytes(slot.bytes);
      memory.set_buffer(static_cast<std::uint32_t>(buffer));
      if (buffer == 0) ToWire(slot, memory);
      ToWire(slot.buffers[buffer], memory);
    }
  }
}

commit::StagingBuffer BufferFromWire(const wire::HandedMemory& memory) {
  commit::StagingBuffer buffer;
  buffer.allocated = true;
  if (!memory.has_content()) return buffer;
  const wire::HandedContent& content = memory.content();
  buffer.holds = commit::CheckpointId{base::Generation(content.generation()), base::Step(content.step())};
  buffer.records = std::make_shared<const std::string>(content.records());
  for (const wire::HandedFile& file : content.files()) {
    auto& sealed = buffer.files.emplace_back(commit::SealedFile{file.name(), file.offset(), file.bytes(), {}});
    if (file.has_origin_step() && file.has_origin_generation()) {
      sealed.origin = {base::Step(file.origin_step()), base::Generation(file.origin_generation())};
    }
  }
  return buffer;
}

commit::StagingSlot FromWire(const wire::HandedMemory& memory) {
  commit::StagingSlot slot;
  slot.bytes = memory.bytes();
  slot.image_bytes = memory.image_bytes() == 0 ? memory.bytes() : memory.image_bytes();
  if (memory.has_numa_node()) slot.numa_node = memory.numa_node();
  if (memory.mapped_by_generation() != 0) {
    slot.former = commit::FormerHolder{base::Generation(memory.mapped_by_generation()), memory.mapped_by_pid()};
  }
  slot.buffers = {BufferFromWire(memory)};
  return slot;
}

base::Result<Handover::Job> FromWire(const wire::HandedJob& from) {
  Handover::Job to;
  commit::HandedJob& job = to.job;
  job.key = {from.project(), from.job()};
  job.generation = base::Generation(from.generation());
  job.world_size = from.world_size();
  if (from.has_launcher()) job.launcher = commit::Launcher{0, from.launcher().pid(), from.launcher().host()};
  if (from.has_snapshot()) {
    const wire::HandedSnapshot& snapshot = from.snapshot();
    if (snapshot.trust() > static_cast<std::uint32_t>(TrustState::kSuspect)) {
      return base::Fail(Code::kCorrupt, "the hand-over record has a trust of ", snapshot.trust());
    }
    job.memory = commit::MemoryPoint{{base::Generation(snapshot.generation()), base::Step(snapshot.step())},
                                     snapshot.world_size(),
                                     snapshot.manifest(),
                                     Trust{static_cast<TrustState>(snapshot.trust()), snapshot.failed_resumes(),
                                           base::Generation(snapshot.judged_by()), snapshot.trust_reason()},
                                     snapshot.buffer()};
  }
  for (const wire::HandedMemory& memory : from.memories()) {
    to.descriptors.push_back(memory.number());
    if (memory.buffer() == 0) {
      job.slots.push_back({base::Rank(memory.rank()), FromWire(memory)});
      continue;
    }
    if (job.slots.empty() || job.slots.back().rank != base::Rank(memory.rank()) ||
        job.slots.back().slot.bytes != memory.bytes() || job.slots.back().slot.buffers.size() != memory.buffer()) {
      return base::Fail(Code::kCorrupt, "the hand-over record has a buffer that belongs to no rank");
    }
    job.slots.back().slot.buffers.push_back(BufferFromWire(memory));
  }
  return to;
}

}  // namespace

std::string EncodeHandover(const Handover& handover, std::size_t limit_bytes) {
  wire::Handover body;
  body.set_belay_version(handover.version);
  body.set_lock(handover.lock);
  body.set_listener(handover.listener);
  body.set_attempts(handover.attempts);
  body.set_left_ns(std::chrono::duration_cast<std::chrono::nanoseconds>(handover.left.time_since_epoch()).count());
  body.set_clients_awaited(handover.clients_awaited);
  std::size_t bytes = kHandoverHeaderBytes + body.ByteSizeLong();
  for (const Handover::Job& job : handover.jobs) {
    wire::HandedJob one;
    ToWire(job, one);
    const std::size_t more = one.ByteSizeLong() + 16;  // its tag and length
    if (bytes + more > limit_bytes) {
      body.add_left_out(base::Str(job.job.key));
      continue;
    }
    bytes += more;
    *body.add_jobs() = std::move(one);
  }
  std::string record(kMagic);
  AppendNumber(record, kHandoverVersion);
  AppendNumber(record, static_cast<std::uint32_t>(body.ByteSizeLong()));
  return record + body.SerializeAsString();
}

base::Result<Handover> DecodeHandover(std::string_view record) {
  if (record.size() > kHandoverBytesMax) {
    return base::Fail(Code::kLimitExceeded, "a hand-over record of ", record.size(), " bytes is over the limit");
  }
  if (record.size() < kHandoverHeaderBytes || !record.starts_with(kMagic)) {
    return base::Fail(Code::kCorrupt, "this is no hand-over record");
  }
  if (const std::uint32_t version = NumberAt(record, 8); version != kHandoverVersion) {
    return base::Fail(Code::kFormatVersion, "the hand-over record has version ", version, ", this belayd reads ",
                      kHandoverVersion);
  }
  const std::string_view bytes = record.substr(kHandoverHeaderBytes);
  wire::Handover body;
  if (NumberAt(record, 12) != bytes.size() || !body.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return base::Fail(Code::kCorrupt, "the hand-over record does not decode");
  }
  Handover handover;
  handover.version = body.belay_version();
  handover.lock = body.lock();
  handover.listener = body.listener();
  handover.attempts = body.attempts();
  handover.left = base::SteadyTime(std::chrono::nanoseconds(body.left_ns()));
  handover.clients_awaited = body.clients_awaited();
  std::set<commit::JobKey> keys;
  for (const wire::HandedJob& from : body.jobs()) {
    BELAY_ASSIGN(Handover::Job job, FromWire(from));
    if (!keys.insert(job.job.key).second) {
      return base::Fail(Code::kCorrupt, "the hand-over record has job ", job.job.key, " twice");
    }
    handover.jobs.push_back(std::move(job));
  }
  handover.left_out.assign(body.left_out().begin(), body.left_out().end());
  return handover;
}

}  // namespace belay::checkpoint
