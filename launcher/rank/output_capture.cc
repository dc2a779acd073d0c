#include "launcher/rank/output_capture.h"

#include <algorithm>
#include <span>

#include "runtime/base/pipes.h"
#include "runtime/base/str.h"
#include "runtime/base/units.h"

namespace belay::launcher {
namespace {

constexpr std::size_t kWaitingBytesMax = 8 * base::kMiB;

}  // namespace

Outbox::Outbox(base::Connection& connection) : connection_(connection), thread_([this] { Run(); }) {}

Outbox::~Outbox() {
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
}

void Outbox::Post(wire::ToLauncher message) {
  {
    const std::scoped_lock lock(mutex_);
    if (broken_) return;
    if (message.has_output()) {
      const std::string& text = message.output().text();
      if (waiting_bytes_ + text.size() > kWaitingBytesMax) {
        dropped_lines_ += static_cast<std::size_t>(std::ranges::count(text, '\n'));
        return;
      }
      waiting_bytes_ += text.size();
    }
    // Told when there is room again, at the end at the latest.
    if (dropped_lines_ > 0 && (message.has_output() || message.has_exited())) {
      wire::ToLauncher note;
      note.mutable_output()->set_text(base::Str("(belay: ", dropped_lines_, " lines are only in the rank's log)\n"));
      dropped_lines_ = 0;
      waiting_bytes_ += note.output().text().size();
      waiting_.push_back(std::move(note));
    }
    if (message.has_progress() && !waiting_.empty() && waiting_.back().has_progress()) {
      waiting_.back() = std::move(message);
    } else {
      waiting_.push_back(std::move(message));
    }
  }
  changed_.notify_all();
}

void Outbox::Flush(base::Duration deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, deadline, [&] { return broken_ || (waiting_.empty() && !busy_); });
}

void Outbox::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    wire::ToLauncher message = std::move(waiting_.front());
    waiting_.pop_front();
    if (message.has_output()) waiting_bytes_ -= std::min(waiting_bytes_, message.output().text().size());
    busy_ = true;
    lock.unlock();
    const base::Status sent = Send(connection_, message);
    lock.lock();
    busy_ = false;
    if (!sent) {
      // The loop learns of it from its reader, which Shutdown wakes.
      broken_ = true;
      waiting_.clear();
      connection_.Shutdown();
    }
    changed_.notify_all();
  }
}

OutputCapture::OutputCapture(std::unique_ptr<base::File> log, std::uint64_t log_bytes, Outbox& outbox)
    : log_(std::move(log)), log_bytes_(log_bytes), outbox_(outbox) {}

OutputCapture::~OutputCapture() {
  // A reader that still waits has a writer that escaped us; nothing can wake its read, and the process is about to end.
  if (output_thread_.joinable() && !Join(std::chrono::seconds(0))) {
    output_thread_.detach();
    error_thread_.detach();
  }
}

void OutputCapture::Start(base::UniqueFd output, base::UniqueFd error) {
  output_ = std::move(output);
  error_ = std::move(error);
  output_thread_ = std::jthread([this] { Read(output_.get(), false); });
  error_thread_ = std::jthread([this] { Read(error_.get(), true); });
}

bool OutputCapture::Join(base::Duration deadline) {
  std::unique_lock lock(mutex_);
  return ended_changed_.wait_for(lock, deadline, [&] { return ended_ == 2; });
}

std::vector<std::string> OutputCapture::last_lines() {
  const std::scoped_lock lock(mutex_);
  return last_.Get();
}

void OutputCapture::Read(int fd, bool error_stream) {
  LineCutter cutter;
  std::vector<char> buffer(64 * base::kKiB);
  while (true) {
    const base::Result<std::size_t> got = base::ReadSome(fd, buffer);
    if (!got || *got == 0) break;
    Deliver(cutter.Feed(std::string_view(buffer.data(), *got)), error_stream);
  }
  Deliver(cutter.Finish(), error_stream);
  const std::scoped_lock lock(mutex_);
  ++ended_;
  ended_changed_.notify_all();
}

void OutputCapture::Deliver(const std::string& lines, bool error_stream) {
  if (lines.empty()) return;
  {
    const std::scoped_lock lock(mutex_);
    last_.Feed(lines);
  }
  {
    const std::scoped_lock lock(log_mutex_);
    if (log_ != nullptr) {
      if (const auto written = log_->WriteAt(log_bytes_, std::as_bytes(std::span(lines))); written) {
        log_bytes_ += lines.size();
      } else {
        log_.reset();
        wire::ToLauncher note;
        note.mutable_output()->set_text(
            base::Str("(belay: this rank's log ends here: ", written.error().Text(), ")\n"));
        note.mutable_output()->set_error_stream(true);
        outbox_.Post(std::move(note));
      }
    }
  }
  wire::ToLauncher message;
  message.mutable_output()->set_text(lines);
  message.mutable_output()->set_error_stream(error_stream);
  outbox_.Post(std::move(message));
}

}  // namespace belay::launcher
