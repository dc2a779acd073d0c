// Finding processes by a mark in their environment.
//
// Process groups and parents are lost when a program daemonizes; what it was started with in its environment is not. So
// a run gives every process one variable with a value of its own, and at its end kills what still carries it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace belay::base {

// Live processes of this user (zombies do not count) that were started with NAME=value in their environment, without
// this one.
std::vector<pid_t> FindMarkedProcesses(const std::string& name, const std::string& value);

// Kills them until none is left or `rounds` looks, 20 ms apart, have found some still there.
struct MarkedKill {
  int killed = 0;
  int surviving = 0;
};
MarkedKill KillMarkedProcesses(const std::string& name, const std::string& value, int rounds);

}  // namespace belay::base
