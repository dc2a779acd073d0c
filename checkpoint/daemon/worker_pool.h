// A few named threads that run tasks in the order they came. What may block goes here, never on the loop thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace belay::checkpoint {

// Where the service's tasks go. A simulation brings one that runs them when its seed says so.
class Executor {
 public:
  using Task = std::function<void()>;
  virtual ~Executor() = default;  // drops tasks that have not begun, waits for those that have
  virtual void Submit(Task task) = 0;
};

class WorkerPool final : public Executor {
 public:
  explicit WorkerPool(int threads);
  ~WorkerPool() override;
  void Submit(Task task) override;

 private:
  void Loop();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace belay::checkpoint
