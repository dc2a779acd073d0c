#include "checkpoint/client/client.h"

#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "checkpoint/client/snapshotter.h"
#include "checkpoint/client/wire.h"
#include "runtime/base/environment.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/sim/sim_transport.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Message;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// A belayd that answers by script, one connection after the other: `answer` gets each request and the connection.
class ScriptedDaemon {
 public:
  using Answer = std::function<void(const wire::Request&, base::Connection&)>;

  explicit ScriptedDaemon(Answer answer, std::uint32_t protocol_version = 1) : answer_(std::move(answer)) {
    socket_ = scratch_.path() + "/s";
    auto listener = base::UnixTransport().Listen(socket_);
    EXPECT_TRUE(listener) << listener.error().Text();
    listener_ = std::move(*listener);
    thread_ = std::jthread([this, protocol_version] { Serve(protocol_version); });
  }
  ~ScriptedDaemon() {
    listener_->Shutdown();
    const std::lock_guard lock(mutex_);
    if (connection_ != nullptr) connection_->Shutdown();
  }

  std::unique_ptr<Client> Connect() {
    auto client = Client::Connect(base::UnixTransport(), socket_, "test");
    EXPECT_TRUE(client) << client.error().Text();
    return client ? std::move(*client) : nullptr;
  }
  const std::string& socket() const { return socket_; }

  static void Send(base::Connection& connection, const wire::Response& response,
                   std::vector<base::UniqueFd> descriptors = {}) {
    Message message{response.SerializeAsString(), std::move(descriptors)};
    EXPECT_TRUE(connection.Send(message));
  }
  static wire::Response DoneFor(const wire::Request& request) {
    wire::Response response;
    response.set_id(request.id());
    response.mutable_done();
    return response;
  }

 private:
  void Serve(std::uint32_t protocol_version) {
    while (true) {
      auto accepted = listener_->Accept();
      if (!accepted || !accepted->has_value()) return;
      {
        const std::lock_guard lock(mutex_);
        connection_ = std::shared_ptr<base::Connection>(std::move(**accepted));
      }
      ServeOne(protocol_version);
    }
  }
  void ServeOne(std::uint32_t protocol_version) {
    const auto hello = connection_->Receive(seconds(5));
    if (!hello || !hello->has_value()) return;
    wire::Welcome welcome;
    welcome.set_protocol_version(protocol_version);
    welcome.set_belay_version("9.9.9");
    EXPECT_TRUE(connection_->Send({welcome.SerializeAsString(), {}}));
    for (;;) {
      auto message = connection_->Receive(std::nullopt);
      if (!message || !message->has_value()) return;
      wire::Request request;
      ASSERT_TRUE(request.ParseFromString((**message).body));
      answer_(request, *connection_);
    }
  }

  ScratchFolder scratch_;
  std::string socket_;
  Answer answer_;
  std::mutex mutex_;
  std::unique_ptr<base::Listener> listener_;
  std::shared_ptr<base::Connection> connection_;
  std::jthread thread_;  // last: joined first
};

TEST(ClientTest, CarriesARequestAndItsAnswer) {
  ScriptedDaemon daemon([](const wire::Request& request, base::Connection& connection) {
    EXPECT_EQ(request.begin_run().key().job(), "gpt");
    EXPECT_EQ(request.begin_run().world_size(), 4);
    EXPECT_EQ(request.begin_run().continues(), 6U);
    EXPECT_GT(request.begin_run().pid(), 0);
    wire::Response response;
    response.set_id(request.id());
    response.mutable_run_grant()->set_generation(7);
    response.mutable_run_grant()->set_newest_step(-1);
    ScriptedDaemon::Send(connection, response);
  });
  const auto client = daemon.Connect();
  const auto grant = client->BeginRun({"default", "gpt"}, 4, base::Generation(6));
  ASSERT_TRUE(grant) << grant.error().Text();
  EXPECT_EQ(grant->generation, base::Generation(7));
  EXPECT_FALSE(grant->newest_step.has_value());
}

TEST(ClientTest, AWaitDoesNotHoldUpOtherCalls) {
  std::optional<wire::Request> waiting;
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    if (request.has_wait_snapshot()) {
      waiting = request;
      return;
    }
    ScriptedDaemon::Send(connection, ScriptedDaemon::DoneFor(request));
    if (!waiting) return;
    wire::Response late;
    late.set_id(waiting->id());
    late.mutable_snapshot_outcome()->set_step(3);
    late.mutable_snapshot_outcome()->set_state(wire::COMMITTED);
    ScriptedDaemon::Send(connection, late);
    waiting.reset();  // once: then the client may be gone
  });
  const auto client = daemon.Connect();
  std::atomic<bool> waited{false};
  std::jthread waiter([&] {
    const auto outcome = client->WaitSnapshot(base::Step(3), seconds(60));
    EXPECT_TRUE(outcome && outcome->state == SnapshotState::kCommitted);
    waited = true;
  });
  // Answered one by one while the wait goes on; the first answer after the wait has arrived also ends it.
  while (!waited) ASSERT_TRUE(client->BeginSnapshot(base::Step(4), "interval"));
}

TEST(ClientTest, ABrokenConnectionFailsEveryCallAndEveryLaterOne) {
  std::atomic<int> requests{0};
  ScriptedDaemon daemon([&](const wire::Request&, base::Connection& connection) {
    if (++requests == 2) connection.Shutdown();
  });
  const auto client = daemon.Connect();
  EXPECT_FALSE(client->Broken());
  EXPECT_FALSE(client->WaitBroken(milliseconds(1)));
  std::jthread other([&] {
    const auto status = client->EndRun({"default", "gpt"}, base::Generation(1), "done");
    EXPECT_EQ(status.error().code, Code::kUnavailable);
  });
  const auto status = client->BeginSnapshot(base::Step(1), "interval");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kUnavailable);
  EXPECT_THAT(status.error().Text(), HasSubstr(daemon.socket()));
  EXPECT_TRUE(client->WaitBroken(seconds(5)));
  EXPECT_TRUE(client->Broken());
  EXPECT_EQ(client->GetDaemonStatus().error().code, Code::kUnavailable);
}

TEST(ClientTest, ADaemonThatHangsCostsOneTimeOutAndNotOneACall) {
  ScriptedDaemon daemon([](const wire::Request&, base::Connection&) {});
  const auto client = daemon.Connect();
  const auto late = client->BeginSnapshot(base::Step(1), "interval");
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::kTimeout);
  EXPECT_THAT(late.error().Text(), HasSubstr(daemon.socket()));
  EXPECT_TRUE(client->Broken());
  EXPECT_EQ(client->AbandonSnapshot(base::Step(1), "late").error().code, Code::kUnavailable);
}

TEST(ClientTest, ASaveWaitsOnlyAMomentForADaemonThatNoLongerAttaches) {
  // Its connections live, its loop hangs: the second greeting is returned, the second Attach is not answered.
  int attaches = 0;
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    if (request.has_begin_snapshot()) return connection.Shutdown();
    if (!request.has_attach() || ++attaches > 1) return;
    const std::uint64_t bytes = request.attach().staging_bytes();
    wire::Response response;
    response.set_id(request.id());
    response.mutable_attached()->set_staging_bytes(bytes);
    std::vector<base::UniqueFd> descriptors;
    descriptors.push_back(std::move(*base::CreateSharedMemory({"test", bytes, false})));
    ScriptedDaemon::Send(connection, response, std::move(descriptors));
  });
  SampleRank rank(0, 1);
  SnapshotterOptions options;
  options.socket = daemon.socket();
  options.attach.job.job = "gpt";
  auto snapshotter = Snapshotter::Create(base::UnixTransport(), base::SystemClock(), MakeMemoryCopier(), options,
                                         rank.fingerprint, rank.plans, rank.sources);
  ASSERT_TRUE(snapshotter) << snapshotter.error().Text();
  const base::SteadyTime start = base::SystemClock().Now();
  const auto begun = (*snapshotter)->Begin(base::Step(10), "interval");
  EXPECT_LT(base::SystemClock().Now() - start, kCallTimeout / 2);
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, Code::kTimeout);
}

TEST(ClientTest, MapsTheDaemonsFailures) {
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    wire::Response response;
    response.set_id(request.id());
    response.mutable_failure()->set_code(request.has_begin_snapshot() ? static_cast<std::uint32_t>(Code::kBusy)
                                                                      : 64999);
    response.mutable_failure()->set_message("still writing step 5");
    ScriptedDaemon::Send(connection, response);
  });
  const auto client = daemon.Connect();
  const auto busy = client->BeginSnapshot(base::Step(6), "interval");
  EXPECT_EQ(busy.error().code, Code::kBusy);
  EXPECT_EQ(busy.error().message, "still writing step 5");
  const auto unknown = client->EndRun({"default", "gpt"}, base::Generation(1), "done");
  EXPECT_EQ(unknown.error().code, Code::kInternal);
  EXPECT_THAT(unknown.error().Text(), HasSubstr("64999"));
}

TEST(ClientTest, RefusesAnAnswerOfTheWrongKindAndGarbage) {
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    if (request.has_daemon_status()) return ScriptedDaemon::Send(connection, ScriptedDaemon::DoneFor(request));
    EXPECT_TRUE(connection.Send({std::string("\xff\xff\xff garbage"), {}}));
  });
  const auto client = daemon.Connect();
  EXPECT_EQ(client->GetDaemonStatus().error().code, Code::kProtocol);
  EXPECT_FALSE(client->Broken());  // one wrong answer is that call's matter
  EXPECT_EQ(client->Reindex().error().code, Code::kProtocol);
  EXPECT_TRUE(client->WaitBroken(seconds(5)));  // what is no frame of ours ends the connection
}

TEST(ClientTest, TakesTheStagingMemoryOnlyWithOneDescriptor) {
  int calls = 0;
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    wire::Response response;
    response.set_id(request.id());
    response.mutable_attached()->set_staging_bytes(calls == 2 ? 4095 : 8192);
    std::vector<base::UniqueFd> descriptors;
    if (calls++ > 0) descriptors.push_back(std::move(*base::CreateSharedMemory({"test", 8192, false})));
    ScriptedDaemon::Send(connection, response, std::move(descriptors));
  });
  const auto client = daemon.Connect();
  AttachRequest request;
  request.job.job = "gpt";
  request.staging_bytes = 4096;
  EXPECT_EQ(client->Attach(request).error().code, Code::kProtocol);
  const auto attached = client->Attach(request);
  ASSERT_TRUE(attached) << attached.error().Text();
  EXPECT_EQ(*base::SealedSize(attached->staging.get()), 8192U);
  EXPECT_EQ(client->Attach(request).error().code, Code::kProtocol);  // smaller than asked for
}

TEST(ClientTest, AnAttachNamesItsNumaNodeOnlyIfThereIsOne) {
  AttachRequest request;
  wire::Attach without, with;
  ToWire(request, &without);
  EXPECT_FALSE(without.has_numa_node());
  request.numa_node = 0;
  ToWire(request, &with);
  ASSERT_TRUE(with.has_numa_node());
  EXPECT_EQ(with.numa_node(), 0);
}

TEST(ClientTest, OpensMoreFilesThanAMessageCarries) {
  Manifest manifest;
  manifest.project = "default";
  manifest.job = "gpt";
  manifest.step = base::Step(9);
  manifest.generation = base::Generation(2);
  const std::string text = EncodeManifest(manifest);
  std::vector<std::uint64_t> generations;
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    generations.push_back(request.open_checkpoint().checkpoint().generation());
    wire::Response response;
    response.set_id(request.id());
    auto* opened = response.mutable_opened_checkpoint();
    opened->set_manifest(text);
    std::vector<base::UniqueFd> descriptors;
    for (const std::string& name : request.open_checkpoint().files()) {
      opened->add_files()->set_name(name);
      descriptors.push_back(std::move(*base::CreateSharedMemory({"test", 4096, false})));
    }
    EXPECT_LE(descriptors.size(), base::kDescriptorsMax);
    ScriptedDaemon::Send(connection, response, std::move(descriptors));
  });
  const auto client = daemon.Connect();
  std::vector<std::string> names;
  for (int i = 0; i < 150; ++i) names.push_back("file-" + std::to_string(i));
  const auto opened = client->OpenCheckpoint({{"default", "gpt"}, base::Step(9), {}}, false, names);
  ASSERT_TRUE(opened) << opened.error().Text();
  ASSERT_EQ(opened->files.size(), 150U);
  EXPECT_EQ(opened->files[149].name, "file-149");
  EXPECT_TRUE(opened->files[149].descriptor.valid());
  EXPECT_EQ(generations, (std::vector<std::uint64_t>{0, 2, 2}));  // all from one checkpoint
}

TEST(ClientTest, TextsThatAreNotUtf8AreMendedBeforeTheyAreSent) {
  ScriptedDaemon daemon([&](const wire::Request& request, base::Connection& connection) {
    EXPECT_EQ(request.begin_snapshot().reason(), request.has_begin_snapshot() ? "\xEF\xBF\xBD" : "");
    EXPECT_EQ(request.abandon_snapshot().why(), request.has_abandon_snapshot() ? "it said \xEF\xBF\xBD" : "");
    EXPECT_EQ(request.seal_snapshot().metrics().contains("loss\xEF\xBF\xBD"), request.has_seal_snapshot());
    ScriptedDaemon::Send(connection, ScriptedDaemon::DoneFor(request));
  });
  const auto client = daemon.Connect();
  EXPECT_TRUE(client->BeginSnapshot(base::Step(1), "\xFF"));
  EXPECT_TRUE(client->AbandonSnapshot(base::Step(1), "it said \xC3"));
  SealRequest seal;
  seal.metrics["loss\xFE"] = 1;
  seal.records = "\xFF stays what it is";
  EXPECT_TRUE(client->SealSnapshot(seal));
  EXPECT_FALSE(client->Broken());
}

TEST(ClientTest, SaysHowToWakeADaemonThatDoesNotGreet) {
  const ScratchFolder scratch;
  const auto listener = base::UnixTransport().Listen(scratch.path() + "/s");
  ASSERT_TRUE(listener) << listener.error().Text();
  const auto hung = Client::Connect(base::UnixTransport(), scratch.path() + "/s", "test", milliseconds(10));
  ASSERT_FALSE(hung);
  EXPECT_EQ(hung.error().code, Code::kTimeout);
  EXPECT_THAT(hung.error().Text(), HasSubstr(scratch.path() + "/s"));
  EXPECT_THAT(hung.error().Text(), HasSubstr("kill -CONT " + std::to_string(base::ProcessId())));
}

TEST(ClientTest, BelievesOnlyADaemonOfItsOwnUserOrRoots) {
  base::SimTransport transport(base::SystemClock(), base::SimWaiting::kThreads);
  const auto listener = transport.Listen("/s");
  ASSERT_TRUE(listener);
  const std::uint32_t other = base::UserId() + 4321;
  transport.SetPeer({other, other, 77});
  const auto refused = Client::Connect(transport, "/s", "test", milliseconds(10));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kPermissionDenied);
  EXPECT_THAT(refused.error().Text(), HasSubstr("user " + std::to_string(other)));
  for (const std::uint32_t trusted : {base::UserId(), std::uint32_t{0}}) {
    transport.SetPeer({trusted, trusted, 77});
    EXPECT_EQ(Client::Connect(transport, "/s", "test", milliseconds(10)).error().code, Code::kTimeout);
  }
}

TEST(ClientTest, SaysWhyItCannotConnect) {
  const ScratchFolder scratch;
  const auto nobody = Client::Connect(base::UnixTransport(), scratch.path() + "/none", "test");
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, Code::kUnavailable);

  ScriptedDaemon newer([](const wire::Request&, base::Connection&) {}, 2);
  const auto version = Client::Connect(base::UnixTransport(), newer.socket(), "test");
  ASSERT_FALSE(version);
  EXPECT_EQ(version.error().code, Code::kProtocolVersion);
  EXPECT_THAT(version.error().Text(), HasSubstr("9.9.9"));
}

}  // namespace
}  // namespace belay::checkpoint
