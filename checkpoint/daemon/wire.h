// Between protobuf messages and the core's types. What comes in is checked here for shape, in the core for meaning.
#pragma once

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/index/folders.h"
#include "checkpoint/protocol/belayd.pb.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

inline constexpr std::uint32_t kProtocolVersion = 1;

// kUnsupported: a request this daemon does not know (from a newer client).
base::Result<commit::Request> FromWire(const wire::Request& request);
void ToWire(const base::Error& error, wire::Failure& failure);

// Fills all of `response` but its id. The daemon itself adds what only it knows to an Attached and a DaemonReport.
void ToWire(const commit::ReplyBody& body, const index::Folders& folders, wire::Response& response);

}  // namespace belay::checkpoint
