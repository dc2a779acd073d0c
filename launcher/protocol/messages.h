// Sends and reads the messages of rank.proto. Everything read is untrusted: sizes are bounded and numbers checked by
// readers.
#pragma once

#include <optional>

#include "launcher/protocol/rank.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/result.h"
#include "runtime/base/transport.h"

namespace belay::launcher {

inline constexpr std::uint32_t kRankProtocolVersion = 2;  // 2: Ending

base::Status Send(base::Connection& connection, const wire::ToLauncher& message);
base::Status Send(base::Connection& connection, const wire::FromLauncher& message);

// No value at the end of the connection. kProtocol if the bytes are no message, or one with an unknown body.
base::Result<std::optional<wire::ToLauncher>> ReceiveToLauncher(base::Connection& connection,
                                                                std::optional<base::Duration> deadline);
base::Result<std::optional<wire::FromLauncher>> ReceiveFromLauncher(base::Connection& connection,
                                                                    std::optional<base::Duration> deadline);
// The decoding alone, for the above and for tests.
base::Result<wire::ToLauncher> DecodeToLauncher(const std::string& body);
base::Result<wire::FromLauncher> DecodeFromLauncher(const std::string& body);

}  // namespace belay::launcher
