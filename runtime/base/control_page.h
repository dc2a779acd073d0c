// The control page: 4 KiB shared by a trainer and its belay-rank, so that each sees the other without messages.
//
// belay-rank makes it (memfd), passes it by inheritance in BELAY_CONTROL_FD and reads progress from it; the trainer
// maps it and looks at `stop_requested` once a step. Every field is one lock-free atomic written by one side only.
// Version 1; fields may be added at the end, never moved: a page is always 4 KiB, zero where its maker knew of no
// field, so a trainer may write what an older belay-rank does not read, and what an older trainer does not write stays
// unknown. A reader refuses another magic or version.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace belay::base {

inline constexpr std::uint64_t kControlMagic = 0x314C5254434C4542ULL;  // "BELCTRL1"

enum class Phase : std::uint32_t {
  kStart = 0,  // before Session
  kInit = 1,   // MPI, device and process groups
  kLoad = 2,   // restoring
  kStep = 3,   // training
  kSave = 4,   // waiting for a commit (only the last save of a run waits)
  kIdle = 5,   // validation and everything else that says so
  kDone = 6,   // the session has finished
};

struct ControlPage {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t reserved_head;
  // written by belay-rank
  std::atomic<std::uint32_t> stop_requested;  // 0 no; 1 finish the step, save, leave
  std::atomic<std::uint32_t> grace_seconds;
  // written by the trainer
  std::atomic<std::uint32_t> attached_pid;  // 0 until a Session maps the page
  std::atomic<std::uint32_t> phase;
  std::atomic<std::int64_t> step;            // finished steps
  std::atomic<std::int64_t> heartbeat_ns;    // steady clock, at every change of step or phase
  std::atomic<std::int64_t> committed_step;  // newest known, -1 none
  std::atomic<std::int64_t> total_steps;     // 0 unknown
  std::atomic<std::uint64_t> loss_bits;      // the rest: bit patterns of doubles, NaN when unknown
  std::atomic<std::uint64_t> samples_per_second_bits;
  std::atomic<std::uint64_t> tokens_per_second_bits;
  std::atomic<std::uint64_t> stall_ms_bits;  // of the last save, with the wait before the update
  std::atomic<std::uint32_t> outcome;        // 0 running, 1 finished, 2 stopped and saved, 3 stopped, not saved
  std::atomic<std::uint32_t> reserved_tail;
  std::atomic<std::int64_t> resumed_step;  // -1: fresh start
  // Of the last step: the wait for input, as the program told Metrics; 0 also where it does not measure it.
  std::atomic<std::uint64_t> data_wait_ms_bits;
  std::atomic<std::uint64_t> resumed_generation;  // of the checkpoint of resumed_step; 0: none, or not known
  std::atomic<std::uint32_t> trust_steps;  // so many steps after a resume prove its checkpoint; 0: nobody shall judge
  std::atomic<std::uint32_t> diverged;     // 1: a loss after a resume was no number, where the saved run had one
};
static_assert(sizeof(ControlPage) <= 4096);
// Programs built against an older belay keep writing where they did.
static_assert(offsetof(ControlPage, loss_bits) == 64 && offsetof(ControlPage, resumed_step) == 104 &&
              offsetof(ControlPage, data_wait_ms_bits) == 112 && offsetof(ControlPage, resumed_generation) == 120);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

inline std::uint64_t DoubleBits(double value) { return std::bit_cast<std::uint64_t>(value); }
inline double BitsDouble(std::uint64_t bits) { return std::bit_cast<double>(bits); }

}  // namespace belay::base
