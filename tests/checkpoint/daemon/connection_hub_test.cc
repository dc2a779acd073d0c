// The order in which the daemon hears of its clients, on real sockets.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/daemon/connection_hub.h"
#include "checkpoint/daemon/wire.h"
#include "runtime/base/environment.h"
#include "tests/checkpoint/daemon/daemon_harness.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

TEST(ConnectionHubTest, TheEndOfOneThatDiedIsHeardBeforeAnotherAsksForTheJob) {
  const base::ScratchFolder folder;
  const auto listener = base::UnixTransport().Listen(folder / "s");
  ASSERT_OK(listener);
  HubOptions options;
  options.welcome.set_protocol_version(kProtocolVersion);
  options.daemon_uid = base::UserId();

  std::mutex mutex;
  std::vector<std::string> heard;
  std::promise<void> is_held_up, disk_answers, has_begun;
  const auto hear = [&](const std::string& what) {
    const std::scoped_lock lock(mutex);
    heard.push_back(what);
  };
  ConnectionHub hub(**listener, options);
  hub.Start({[](commit::ConnectionId, const base::Peer&) {},
             [&](commit::RequestRef, const wire::Request& request) {
               if (request.has_begin_run()) {
                 hear("the next begins");
                 has_begun.set_value();
                 return;
               }
               is_held_up.set_value();
               disk_answers.get_future().wait();
               hear("the last words of the first");
             },
             [&](commit::ConnectionId) { hear("an end"); }});

  wire::Request last_words, begin;
  last_words.mutable_daemon_status();
  begin.mutable_begin_run();
  RawClient first((folder / "s"));
  first.Post(last_words);
  is_held_up.get_future().wait();
  first.Close();
  RawClient next((folder / "s"));
  next.Post(begin);
  auto begun = has_begun.get_future();
  EXPECT_EQ(begun.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout) << "it was not held back";
  disk_answers.set_value();
  begun.wait();
  const std::scoped_lock lock(mutex);
  EXPECT_EQ(heard, (std::vector<std::string>{"the last words of the first", "an end", "the next begins"}));
}

}  // namespace
}  // namespace belay::checkpoint
