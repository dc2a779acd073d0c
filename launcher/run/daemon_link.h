// A run's relation to belayd: its generation, and noticing when the daemon dies. Blocking calls come from helper
// threads; answers go to the loop through callbacks.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/client/locate.h"
#include "runtime/base/result.h"

namespace belay::launcher {

// What HoldRun answers when another run has the job.
bool JobIsTaken(base::Code code);

class DaemonLink {
 public:
  struct Grant {
    base::Generation generation;
    std::optional<std::int64_t> newest_step;
    std::string socket;
    std::string data_dir;
    bool started_daemon = false;
    std::uint32_t suspects = 0;
  };
  // What a run shows of the checkpoint that it resumed from. `told` hears what belayd believes from now on, or why it
  // does not take it; on the thread that told it.
  struct Verdict {
    checkpoint::CheckpointKey key;
    checkpoint::Judgement judgement = checkpoint::Judgement::kProved;
    base::Generation by;
    std::string reason;
    std::function<void(const base::Result<checkpoint::Trust>&)> told;
  };

  DaemonLink(checkpoint::LocateRequest request, checkpoint::JobKey job);
  ~DaemonLink();

  // Finds or starts belayd if need be, then begins a generation. Blocks while belayd settles the previous one. A belayd
  // that dies over the question is started again and asked again, a few times.
  base::Result<Grant> Begin(std::int32_t world_size, base::Generation continues);
  // Told before the next Begin or End, or by Tell; a daemon that is gone is told when it is back.
  void Judge(Verdict verdict);
  void Tell();
  bool Connected();
  // Connects again after the daemon has gone, starting it if it was a private one, and takes hold of the run again, so
  // that no second launcher gets the job meanwhile; tries until it succeeds, or answers false once it is told to stop.
  // `trouble` is called with what is in the way: once, after half a minute, and at once if another run has the job.
  bool KeepReconnecting(const std::stop_token& stop, const std::function<void(const base::Error&)>& trouble);
  // Calls `gone` (on a thread of its own) once the present connection breaks.
  void Watch(std::function<void()> gone);
  // Ends the run and answers its newest committed step, if belayd answers in time. `daemon` lives on in a thread of its
  // own where belayd hangs, so that a run can always be ended.
  static std::optional<std::int64_t> End(const std::shared_ptr<DaemonLink>& daemon, base::Generation generation,
                                         const std::string& outcome, base::Duration patience);

 private:
  std::shared_ptr<checkpoint::Client> client();
  base::Status Reconnect();  // nothing to do if another thread was quicker
  base::Status HoldRun();    // on the present connection; nothing to do before the first Begin

  const checkpoint::LocateRequest request_;
  const checkpoint::JobKey job_;
  std::mutex reconnect_mutex_;  // held while a daemon is looked for or started
  std::mutex mutex_;
  std::shared_ptr<checkpoint::Client> client_;  // guarded by mutex_
  std::string socket_, data_dir_;               // guarded by mutex_
  bool started_ = false;                        // guarded by mutex_
  base::Generation generation_;                 // guarded by mutex_; granted last
  std::int32_t world_size_ = 0;                 // guarded by mutex_; of that run
  std::vector<Verdict> untold_;                 // guarded by mutex_
  std::mutex tell_mutex_;                       // held while they are told
  std::mutex watch_mutex_;
  std::jthread watcher_;  // guarded by watch_mutex_
};

}  // namespace belay::launcher
