#include "launcher/rank/output_capture.h"

#include <cstdio>
#include <future>

#include "runtime/base/pipes.h"
#include "runtime/base/transport.h"
#include "tests/runtime/base/test_util.h"

namespace belay::launcher {
namespace {

using std::chrono::seconds;

// A shim's connection, and the launcher's end of it, which reads only when the test does.
class OutboxTest : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = base::UnixTransport().Listen(folder_ / "socket");
    ASSERT_OK(listener);
    auto shim = base::UnixTransport().Connect(folder_ / "socket", seconds(30));
    ASSERT_OK(shim);
    shim_ = *std::move(shim);
    shim_->SendWithoutTimeout();
    launcher_ = **(*listener)->Accept();
  }
  static wire::ToLauncher Output(std::size_t bytes) {
    wire::ToLauncher message;
    message.mutable_output()->set_text(std::string(bytes - 1, 'x') + "\n");
    return message;
  }
  static wire::ToLauncher Exited() {
    wire::ToLauncher message;
    message.mutable_exited()->set_status(3);
    return message;
  }
  wire::ToLauncher Receive() {
    auto message = ReceiveToLauncher(*launcher_, seconds(30));
    EXPECT_OK(message);
    return message && *message ? **message : Exited();
  }

  base::ScratchFolder folder_;
  std::unique_ptr<base::Connection> shim_, launcher_;
};

TEST_F(OutboxTest, ALauncherThatDoesNotReadCostsLinesAndNothingElse) {
  constexpr int kLines = 30;
  Outbox outbox(*shim_);
  for (int i = 0; i < kLines; ++i) outbox.Post(Output(1 << 20));  // more than may wait, and nobody reads
  outbox.Post(Exited());
  int lines = 0, dropped = 0;
  for (auto message = Receive(); !message.has_exited(); message = Receive()) {
    ASSERT_TRUE(message.has_output());
    int told = 0;
    if (std::sscanf(message.output().text().c_str(), "(belay: %d lines are only in the rank's log)", &told) == 1) {
      dropped += told;
    } else {
      ++lines;
    }
  }
  EXPECT_GT(dropped, 0);
  EXPECT_EQ(lines + dropped, kLines);
}

TEST_F(OutboxTest, WhileTheLauncherDoesNotReadOnlyTheNewestProgressIsKept) {
  Outbox outbox(*shim_);
  outbox.Post(Output(4 << 20));  // more than the socket holds
  for (int step = 1; step <= 1000; ++step) {
    wire::ToLauncher message;
    message.mutable_progress()->set_step(step);
    outbox.Post(std::move(message));
  }
  outbox.Post(Exited());
  EXPECT_TRUE(Receive().has_output());
  EXPECT_EQ(Receive().progress().step(), 1000);
  EXPECT_TRUE(Receive().has_exited());
}

TEST_F(OutboxTest, TheEndOfTheLauncherEndsTheWait) {
  Outbox outbox(*shim_);
  outbox.Post(Output(4 << 20));
  launcher_.reset();
  outbox.Flush(seconds(30));
  EXPECT_CODE(shim_->Send({}), kUnavailable);
}

// A log on a disk that hangs until the test lets it go.
class StuckFile final : public base::File {
 public:
  explicit StuckFile(std::shared_future<void> released) : released_(std::move(released)) {}
  base::Status WriteAt(std::uint64_t, std::span<const std::byte>) override {
    released_.wait();
    return {};
  }
  base::Result<std::size_t> ReadAt(std::uint64_t, std::span<std::byte>) override { return 0U; }
  base::Result<std::uint64_t> Size() override { return 0U; }
  base::Status Truncate(std::uint64_t) override { return {}; }
  base::Status Preallocate(std::uint64_t) override { return {}; }
  base::Status Sync() override { return {}; }
  base::Status Close() override { return {}; }
  int Descriptor() const override { return -1; }

 private:
  const std::shared_future<void> released_;
};

TEST_F(OutboxTest, ALogThatHangsHoldsUpNeitherTheLastLinesNorTheWaitForThem) {
  std::promise<void> release;
  auto output = base::MakePipe();
  auto error = base::MakePipe();
  ASSERT_OK(output);
  ASSERT_OK(error);
  Outbox outbox(*shim_);
  OutputCapture capture(std::make_unique<StuckFile>(release.get_future().share()), 0, outbox);
  capture.Start(std::move(output->reading), std::move(error->reading));
  ASSERT_TRUE(base::WriteAll(output->writing.get(), "last words\n"));
  while (capture.last_lines().empty()) std::this_thread::yield();
  EXPECT_THAT(capture.last_lines(), testing::ElementsAre("last words"));
  EXPECT_FALSE(capture.Join(base::Duration::zero()));
  release.set_value();
  output->writing.Reset();
  error->writing.Reset();
  EXPECT_TRUE(capture.Join(seconds(30)));
  EXPECT_EQ(Receive().output().text(), "last words\n");
}

}  // namespace
}  // namespace belay::launcher
