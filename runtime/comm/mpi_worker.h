// The thread that carries out the MPI backend's operations, one collective after the other in the order of the calls,
// while sends and receives make progress beside it.
//
// c10d promises that operations run beside the caller's computing; MPI promises it only while somebody calls MPI. So
// one thread does. Works complete on it; callbacks of their futures run on it and must not call collectives and wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "runtime/comm/transfers.h"

namespace belay::runtime {

class MpiWork : public c10d::Work {
 public:
  // `what` goes in front of error messages: "allreduce (sum, 1024 float)".
  MpiWork(int rank, c10d::OpType type, const char* title, std::string what, const std::vector<at::Tensor>& inputs,
          std::vector<at::Tensor> outputs);

  std::vector<at::Tensor> result() override;
  int sourceRank() const override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }

  void Succeed();
  void Fail(const std::exception_ptr& error);
  void SetSource(int rank) { source_ = rank; }
  const std::string& what() const { return what_; }

 private:
  std::string what_;
  std::vector<at::Tensor> outputs_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
  int source_ = -1;
};

// A c10::DistBackendError with the operation, the rank and the reason.
std::exception_ptr MakeBackendError(const std::string& what, int rank, int size, const base::Error& error);
// Why an operation fails that came after the one that broke the backend.
base::Error AfterFailure(const base::Error& broken);

class MpiWorker {
 public:
  // Both communicators stay the caller's; only this thread uses the one of `collectives`.
  MpiWorker(MPI_Comm collectives, MPI_Comm point_to_point, TransferLimits limits);
  ~MpiWorker();  // abandons what is under way, unless Drain came first
  MpiWorker(const MpiWorker&) = delete;
  MpiWorker& operator=(const MpiWorker&) = delete;

  struct Operation {
    c10::intrusive_ptr<MpiWork> work;
    base::Duration timeout{};
    std::function<base::Status(Transfers&)> run;  // moves the bytes
    std::function<void()> after;                  // copies staged results into place; may be empty
    std::vector<at::Tensor> keep;                 // whose bytes it uses
  };
  // Any thread.
  void Submit(Operation operation);

  struct Letter {
    c10::intrusive_ptr<MpiWork> work;
    base::SteadyTime deadline;
    std::unique_ptr<PointToPoint> message;
    std::function<void()> after;
    std::vector<at::Tensor> keep;
  };
  void Submit(Letter letter);

  // The first failure, of an operation or a letter: everything that begins later fails, because messages of the failed
  // one may still be under way and would be taken for later ones. Letters under way may yet arrive. Any thread.
  std::optional<base::Error> Broken() const;

  // Waits until everything submitted is complete, then ends the thread. False if something failed.
  bool Drain();
  // Fails everything under way and ends the thread.
  void Abandon();

  int rank() const { return transfers_.rank(); }
  int size() const { return transfers_.size(); }

 private:
  void Loop();
  void Run(Operation operation);
  bool TestLetters();  // true if one was completed
  void Fail(MpiWork& work, const base::Error& error);

  Transfers transfers_;
  MPI_Comm point_to_point_;
  std::atomic<bool> give_up_ = false;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Operation> queue_;        // guarded by mutex_
  std::list<Letter> new_letters_;      // guarded by mutex_
  bool draining_ = false;              // guarded by mutex_
  std::optional<base::Error> broken_;  // guarded by mutex_

  std::list<Letter> letters_;  // the thread's
  std::thread thread_;
};

}  // namespace belay::runtime
