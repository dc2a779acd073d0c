// From what a run has shown of its checkpoint to what belayd is told, and to words for the user.
#pragma once

#include <functional>
#include <string>

#include "launcher/run/daemon_link.h"
#include "launcher/supervise/supervisor.h"

namespace belay::launcher {

// `say` gets the words, with their newline, on the thread that told belayd; nothing if there is nothing to say.
DaemonLink::Verdict VerdictOn(const action::JudgeResume& resume, const checkpoint::JobKey& job,
                              base::Generation generation, std::function<void(std::string)> say);

// What belayd made of it. Pure.
std::string JudgementWords(const checkpoint::CheckpointKey& key, ResumeFate fate,
                           const base::Result<checkpoint::Trust>& trust);

}  // namespace belay::launcher
