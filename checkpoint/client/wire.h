// Between the client's plain types and the protocol's messages. Internal to checkpoint/client: the only header here
// that knows protobuf, so no header that others include may include it.
//
// Everything read from a message is checked as if the daemon were hostile: kProtocol says what is wrong. Texts are sent
// as UTF-8, with U+FFFD for other bytes: the daemon's protobuf would refuse the whole message, and with it the
// connection.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/protocol/belayd.pb.h"

namespace belay::checkpoint {

inline constexpr std::uint32_t kClientProtocolVersion = 1;

void ToWire(const JobKey& key, wire::JobKey* out);
void ToWire(const CheckpointKey& key, wire::CheckpointKey* out);
void ToWire(const AttachRequest& request, wire::Attach* out);
void ToWire(const WaveRequest& request, wire::WriteWave* out);
void ToWire(const SealRequest& request, wire::SealSnapshot* out);

base::Error FromWire(const wire::Failure& failure);
base::Result<RunGrant> FromWire(const wire::RunGrant& grant);
base::Result<SnapshotOutcome> FromWire(const wire::SnapshotOutcome& outcome);
base::Result<std::vector<RestorePoint>> FromWire(const wire::RestorePointList& list);
base::Result<std::vector<CheckpointInfo>> FromWire(const wire::CheckpointList& list);
Trust FromWire(const wire::Trust& trust);
base::Result<DaemonReport> FromWire(const wire::DaemonReport& report);
ReindexReport FromWire(const wire::ReindexReport& report);
// The descriptors become the files': as many as files, or kProtocol.
base::Result<OpenedCheckpoint> FromWire(const wire::OpenedCheckpoint& opened, std::vector<base::UniqueFd> descriptors);
base::Result<Begun> FromWire(const wire::Begun& begun, std::vector<base::UniqueFd> descriptors);
base::Result<Attachment> FromWire(const wire::Attached& attached, std::vector<base::UniqueFd> descriptors);

// A frame's body as a Response; kProtocol if it is none.
base::Result<wire::Response> DecodeResponse(std::string_view body);

}  // namespace belay::checkpoint
