#include "runtime/comm/mpi_worker.h"

#include <utility>

#include <c10/util/Exception.h>

namespace belay::runtime {

MpiWork::MpiWork(int rank, c10d::OpType type, const char* title, std::string what,
                 const std::vector<at::Tensor>& inputs, std::vector<at::Tensor> outputs)
    : c10d::Work(rank, type, title, inputs),
      what_(std::move(what)),
      outputs_(std::move(outputs)),
      future_(c10::make_intrusive<at::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {}

std::vector<at::Tensor> MpiWork::result() { return outputs_; }

int MpiWork::sourceRank() const {
  TORCH_CHECK(source_ >= 0, "only a completed receive has a source rank");
  return source_;
}

void MpiWork::Succeed() {
  future_->markCompleted(c10::IValue(outputs_));
  finish();
}

void MpiWork::Fail(const std::exception_ptr& error) {
  future_->setError(error);
  finish(error);
}

std::exception_ptr MakeBackendError(const std::string& what, int rank, int size, const base::Error& error) {
  return std::make_exception_ptr(
      c10::DistBackendError({__func__, __FILE__, static_cast<std::uint32_t>(__LINE__)},
                            base::Str("MPI ", what, " on rank ", rank, " of ", size, " failed: ", error.Text())));
}

base::Error AfterFailure(const base::Error& broken) {
  return {base::Code::kCommunication, base::Str("an earlier operation failed: ", broken.Text()), nullptr};
}

MpiWorker::MpiWorker(MPI_Comm collectives, MPI_Comm point_to_point, TransferLimits limits)
    : transfers_(collectives, limits), point_to_point_(point_to_point), thread_([this] { Loop(); }) {}

MpiWorker::~MpiWorker() {
  if (thread_.joinable()) Abandon();
}

void MpiWorker::Submit(Operation operation) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(operation));
  }
  wake_.notify_one();
}

void MpiWorker::Submit(Letter letter) {
  {
    const std::lock_guard lock(mutex_);
    new_letters_.push_back(std::move(letter));
  }
  wake_.notify_one();
}

bool MpiWorker::Drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  return !Broken();
}

std::optional<base::Error> MpiWorker::Broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

void MpiWorker::Fail(MpiWork& work, const base::Error& error) {
  {
    // First, so that whoever sees the failure finds the backend broken.
    const std::lock_guard lock(mutex_);
    if (!broken_) broken_ = base::Error{error.code, base::Str(work.what(), ": ", error.Text()), nullptr};
  }
  work.Fail(MakeBackendError(work.what(), rank(), size(), error));
}

void MpiWorker::Abandon() {
  give_up_ = true;
  Drain();
}

bool MpiWorker::TestLetters() {
  {
    const std::lock_guard lock(mutex_);
    letters_.splice(letters_.end(), new_letters_);
  }
  bool progress = false;
  for (auto letter = letters_.begin(); letter != letters_.end();) {
    auto done = letter->message->Test();
    if (done && !*done) {
      if (give_up_) {
        done = base::Fail(base::Code::kCancelled, "given up: this rank leaves");
      } else if (letter->deadline != kNoDeadline && base::SystemClock().Now() >= letter->deadline) {
        done = base::Fail(base::Code::kTimeout, "timed out");
      } else {
        ++letter;
        continue;
      }
    }
    progress = true;
    if (done) {
      letter->work->SetSource(letter->message->peer());
      if (letter->after) letter->after();
      letter->work->Succeed();
    } else {
      Fail(*letter->work, done.error());
      // MPI may still write to its bytes.
      [[maybe_unused]] auto* leaked = new Letter(std::move(*letter));
    }
    letter = letters_.erase(letter);
  }
  return progress;
}

void MpiWorker::Run(Operation operation) {
  base::Status done;
  const auto broken = Broken();
  if (broken) {
    done = tl::unexpected(AfterFailure(*broken));
  } else {
    WaitOptions wait;
    if (operation.timeout.count() > 0) wait.deadline = base::SystemClock().Now() + operation.timeout;
    wait.meanwhile = [this] { return TestLetters(); };
    wait.give_up = &give_up_;
    transfers_.SetWait(std::move(wait));
    try {
      done = operation.run(transfers_);
      if (done && operation.after) operation.after();
    } catch (const std::exception& exception) {
      done = base::Fail(base::Code::kInternal, exception.what());
    }
  }
  if (done) {
    operation.work->Succeed();
    return;
  }
  Fail(*operation.work, done.error());
  // MPI may still write to its bytes, if it began.
  if (!broken) {
    [[maybe_unused]] auto* leaked = new Operation(std::move(operation));
  }
}

void MpiWorker::Loop() {
  Backoff backoff;
  while (true) {
    Operation operation;
    {
      std::unique_lock lock(mutex_);
      if (letters_.empty()) wake_.wait(lock, [this] { return !queue_.empty() || !new_letters_.empty() || draining_; });
      if (!queue_.empty()) {
        operation = std::move(queue_.front());
        queue_.pop_front();
      } else if (letters_.empty() && new_letters_.empty()) {
        return;  // draining, and nothing left
      }
    }
    if (operation.work) {
      Run(std::move(operation));
      backoff.Reset();
    } else if (TestLetters()) {
      backoff.Reset();
    } else {
      backoff.Pause();
    }
  }
}

}  // namespace belay::runtime
