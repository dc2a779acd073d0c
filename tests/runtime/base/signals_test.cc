#include "runtime/base/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SignalsTest : public testing::Test {
 protected:
  void SetUp() override { ::pthread_sigmask(SIG_SETMASK, nullptr, &before_); }
  void TearDown() override { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  sigset_t before_;
};

TEST_F(SignalsTest, ArriveAsValues) {
  auto watcher = SignalWatcher::Create({SIGUSR1, SIGTERM});
  ASSERT_OK(watcher);
  EXPECT_EQ(*watcher->Next(milliseconds(1)), std::nullopt);
  ::kill(::getpid(), SIGTERM);
  EXPECT_EQ(*watcher->Next(seconds(30)), SIGTERM);
  ::kill(::getpid(), SIGUSR1);
  EXPECT_EQ(*watcher->Next(std::nullopt), SIGUSR1);
  EXPECT_EQ(*watcher->Next(Duration::zero()), std::nullopt);
}

TEST_F(SignalsTest, InterruptWakesOnce) {
  auto watcher = SignalWatcher::Create({SIGUSR1});
  ASSERT_OK(watcher);
  std::thread waiter([&] { EXPECT_EQ(*watcher->Next(std::nullopt), std::nullopt); });
  watcher->Interrupt();
  waiter.join();
  ::kill(::getpid(), SIGUSR1);
  EXPECT_EQ(*watcher->Next(std::nullopt), SIGUSR1);
}

TEST_F(SignalsTest, WhatTheStarterIgnoresStaysIgnored) {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGHUP, &ignore, &before), 0);  // as nohup does
  auto watcher = SignalWatcher::Create({SIGHUP, SIGUSR1});
  ASSERT_OK(watcher);
  ::kill(::getpid(), SIGHUP);
  ::kill(::getpid(), SIGUSR1);
  EXPECT_EQ(*watcher->Next(seconds(30)), SIGUSR1);
  EXPECT_EQ(*watcher->Next(Duration::zero()), std::nullopt);
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGHUP), 0);
  ::sigaction(SIGHUP, &before, nullptr);
}

}  // namespace
}  // namespace belay::base
