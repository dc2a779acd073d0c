#include "launcher/protocol/messages.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;

template <typename Proto>
base::Status SendProto(base::Connection& connection, const Proto& proto) {
  base::Message message;
  if (!proto.SerializeToString(&message.body)) return Fail(Code::kInternal, "a control message cannot be encoded");
  return connection.Send(message);
}

template <typename Proto>
base::Result<Proto> Decode(const std::string& body) {
  Proto proto;
  if (!proto.ParseFromString(body))
    return Fail(Code::kProtocol, "not a control message of belay (", body.size(), " bytes)");
  if (proto.body_case() == Proto::BODY_NOT_SET) return Fail(Code::kProtocol, "a control message of an unknown kind");
  return proto;
}

template <typename Proto>
base::Result<std::optional<Proto>> ReceiveProto(base::Connection& connection, std::optional<base::Duration> deadline) {
  BELAY_ASSIGN(std::optional<base::Message> message, connection.Receive(deadline));
  if (!message) return std::optional<Proto>();
  BELAY_ASSIGN(Proto proto, Decode<Proto>(message->body));
  return std::optional<Proto>(std::move(proto));
}

}  // namespace

base::Status Send(base::Connection& connection, const wire::ToLauncher& message) {
  return SendProto(connection, message);
}
base::Status Send(base::Connection& connection, const wire::FromLauncher& message) {
  return SendProto(connection, message);
}

base::Result<std::optional<wire::ToLauncher>> ReceiveToLauncher(base::Connection& connection,
                                                                std::optional<base::Duration> deadline) {
  return ReceiveProto<wire::ToLauncher>(connection, deadline);
}
base::Result<std::optional<wire::FromLauncher>> ReceiveFromLauncher(base::Connection& connection,
                                                                    std::optional<base::Duration> deadline) {
  return ReceiveProto<wire::FromLauncher>(connection, deadline);
}

base::Result<wire::ToLauncher> DecodeToLauncher(const std::string& body) { return Decode<wire::ToLauncher>(body); }
base::Result<wire::FromLauncher> DecodeFromLauncher(const std::string& body) {
  return Decode<wire::FromLauncher>(body);
}

}  // namespace belay::launcher
