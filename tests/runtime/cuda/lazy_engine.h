// A fake GPU whose side queue runs only as far as somebody waits, so that a missing wait shows.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/cuda/copy_engine.h"

namespace belay::runtime {

// Side-stream work is queued and runs as late as allowed: when the host or the training stream waits for it. Safe to be
// used by the threads of a real save.
class LazyEngine final : public CopyEngine {
 public:
  // Shared with the test, which outlives the engine or not.
  struct Controls {
    std::mutex mutex;
    std::condition_variable changed;
    // Host waits stand still until the training stream waits, as on a GPU that is busy until then.
    bool host_waits_for_training = false;
    int fail_copy_after = -1;  // -1: never
    bool fail_mark = false;
    bool fail_side = false;
    bool fail_training_wait = false;
    double stream_wait_seconds = 0;  // what TrainingWaited tells
    int copies = 0, packs = 0, marks = 0, training_waits = 0;

    void Set(const std::function<void(Controls&)>& change) {
      const std::lock_guard lock(mutex);
      change(*this);
      changed.notify_all();
    }
    int TrainingWaits() {
      const std::lock_guard lock(mutex);
      return training_waits;
    }
    int Marks() {
      const std::lock_guard lock(mutex);
      return marks;
    }
  };

  explicit LazyEngine(std::shared_ptr<Controls> controls = std::make_shared<Controls>())
      : controls_(std::move(controls)) {}
  Controls& controls() { return *controls_; }

  base::Status RegisterHost(std::span<std::byte>) override { return {}; }
  void UnregisterHost(std::span<std::byte>) override {}
  base::Status MarkTraining() override {
    const std::lock_guard lock(controls_->mutex);
    if (controls_->fail_mark) return base::Fail(base::Code::kDevice, "the fake cannot mark");
    ++controls_->marks;
    marked_ = true;
    return {};
  }
  base::Status SideAwaitsMark() override {
    const std::lock_guard lock(controls_->mutex);
    EXPECT_TRUE(marked_) << "copies were issued before the end of the step was marked";
    if (controls_->fail_side) return base::Fail(base::Code::kDevice, "the fake's side stream is broken");
    trained_ = false;
    return {};
  }
  base::Status Copy(std::byte* destination, const std::byte* source, std::uint64_t bytes) override {
    const std::lock_guard lock(controls_->mutex);
    if (controls_->fail_copy_after >= 0 && controls_->fail_copy_after-- == 0) {
      return base::Fail(base::Code::kDevice, "out of order");
    }
    ++controls_->copies;
    side_.push_back([=] { std::memcpy(destination, source, bytes); });
    return {};
  }
  base::Status Pack(std::byte* destination, std::span<const PackItem> items, std::uint64_t bytes) override {
    EXPECT_LE(items.size(), kPackItemsMax);
    EXPECT_LE(bytes, kPackBytesMax);
    const std::lock_guard lock(controls_->mutex);
    ++controls_->packs;
    side_.push_back([destination, all = std::vector<PackItem>(items.begin(), items.end())] {
      for (const PackItem& item : all) std::memcpy(destination + item.offset, item.source, item.bytes);
    });
    return {};
  }
  base::Status RecordSide(std::size_t index) override {
    const std::lock_guard lock(controls_->mutex);
    ends_[index] = issued_ + side_.size();
    return {};
  }
  base::Status AwaitOnHost(std::size_t index) override {
    std::unique_lock lock(controls_->mutex);
    controls_->changed.wait(lock, [&] { return trained_ || !controls_->host_waits_for_training; });
    RunUntil(index);
    return {};
  }
  base::Status TrainingAwaits(std::size_t index) override {
    const std::lock_guard lock(controls_->mutex);
    ++controls_->training_waits;
    if (controls_->fail_training_wait) return base::Fail(base::Code::kDevice, "the fake's training stream is broken");
    trained_ = true;
    controls_->changed.notify_all();
    RunUntil(index);
    return {};
  }
  std::optional<double> TrainingWaited() override {
    const std::lock_guard lock(controls_->mutex);
    if (controls_->stream_wait_seconds < 0) return std::nullopt;  // not there yet
    return controls_->stream_wait_seconds;
  }

  std::size_t Pending() const { return side_.size(); }

 private:
  void RunUntil(std::size_t index) {
    EXPECT_TRUE(ends_.contains(index)) << "event " << index << " was never recorded";
    for (; issued_ < ends_[index]; ++issued_) {
      side_.front()();
      side_.pop_front();
    }
  }

  // All below are guarded by the controls' mutex.
  std::shared_ptr<Controls> controls_;
  bool marked_ = false;
  bool trained_ = false;  // the training stream has waited since the copies were issued
  std::deque<std::function<void()>> side_;
  std::size_t issued_ = 0;
  std::map<std::size_t, std::size_t> ends_;
};

}  // namespace belay::runtime
