// A few named threads that run tasks in the order they came. What may block goes here, never on the loop thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace belay::checkpoint {

class WorkerPool {
 public:
  using Task = std::function<void()>;
  explicit WorkerPool(int threads);
  ~WorkerPool();  // drops tasks that have not begun, waits for those that have
  void Submit(Task task);

 private:
  void Loop();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace belay::checkpoint
