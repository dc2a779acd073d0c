#include "runtime/checkpointer/resume.h"

#include <algorithm>
#include <sstream>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/base/transport.h"
#include "runtime/base/units.h"
#include "runtime/state/restore.h"

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;
using checkpoint::RestorePoint;

constexpr int kThreadsMax = 8;

std::string Name(const RestorePoint& point) {
  return base::Str("step ", point.step.value(), ", generation ", point.generation.value(),
                   point.in_memory ? " (in memory)" : " (on disk)");
}

// Worth trying another checkpoint? Not if the program itself does not fit, or nobody is there to ask.
bool AnotherMayDo(Code code) {
  switch (code) {
    case Code::kCorrupt:
    case Code::kIncomplete:
    case Code::kFormatVersion:
    case Code::kNotFound:
    case Code::kIo:
      return true;
    default:
      return false;
  }
}

// What each rank says of its attempt, as text for the exchange: the error's number and words, or nothing.
std::string Encode(const base::Status& status) {
  return status ? "" : base::Str(static_cast<std::uint32_t>(status.error().code), " ", status.error().Text());
}
base::Error Decode(const std::string& text, std::size_t rank) {
  std::istringstream in(text);
  std::uint32_t number = 0;
  in >> number;
  std::string words;
  std::getline(in >> std::ws, words, '\0');
  return {base::CodeFromNumber(number), base::Str("rank ", rank, ": ", words), nullptr};
}

base::Status LoadOne(belay::detail::SessionState& run, StateSet& state, checkpoint::Client& client,
                     const RestorePoint& point, checkpoint::RestoreStatistics* statistics,
                     std::map<std::string, double>* metrics) {
  const auto& environment = run.environment;
  const checkpoint::CheckpointKey key{{environment.project, environment.job}, point.step, point.generation};
  BELAY_ASSIGN(auto restorer, checkpoint::Restorer::Open(client, key, point.in_memory));
  // Before the layouts are compared: what a missing file held would look like state that the program has added.
  if (auto problems = restorer->Problems(); !problems.empty()) return tl::unexpected(std::move(problems.front()));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const RestoreOptions options{.world_size = run.place.world_size,
                               .threads = std::clamp(cores / std::max(1, run.place.local_world_size), 1, kThreadsMax)};
  BELAY_ASSIGN(*statistics, RestoreState(state, *restorer, options));
  *metrics = restorer->manifest().metrics;
  return {};
}

// belayd may restart between two questions: asked again, once, on a new connection.
template <typename Ask>
auto AskAcrossARestart(const std::string& socket, std::unique_ptr<checkpoint::Client>& client, const Ask& ask)
    -> decltype(ask(*client)) {
  auto answer = ask(*client);
  if (answer || !client->Broken()) return answer;
  auto fresh = checkpoint::Client::Connect(base::UnixTransport(), socket, "trainer");
  if (!fresh) return answer;
  client = *std::move(fresh);
  return ask(*client);
}

// Not to begin from nothing where there is something: that would be a loss nobody asked for.
base::Status AllSuspect(const std::string& job, const std::vector<RestorePoint>& points) {
  const RestorePoint& newest = points.front();
  return Fail(Code::kCorrupt, "every checkpoint of the job that is left (", points.size(),
              ") is suspect: runs that resumed from them failed before they had trained on. `belay ckpt list ", job,
              "` says why. Mend what failed, then `belay ckpt trust ", job, " ", newest.step, " good --generation ",
              newest.generation, "` resumes from the newest");
}

}  // namespace

base::Status AgreeOn(belay::detail::SessionState& run, const base::Status& own) {
  BELAY_ASSIGN(const auto answers, run.AllGather(Encode(own)));
  base::Status worst;
  for (std::size_t r = 0; r < answers.size(); ++r) {
    if (answers[r].empty()) continue;
    base::Error error = Decode(answers[r], r);
    if (worst || (AnotherMayDo(worst.error().code) && !AnotherMayDo(error.code)))
      worst = tl::unexpected(std::move(error));
  }
  return worst;
}

std::vector<RestorePoint> RestoreCandidates(const std::vector<RestorePoint>& listed) {
  std::vector<RestorePoint> candidates;
  for (RestorePoint point : listed) {
    if (point.suspect) continue;
    if (point.in_memory) candidates.push_back(point);
    point.in_memory = false;
    if (point.committed) candidates.push_back(point);
  }
  return candidates;
}

std::string EncodeRestorePoints(const std::vector<RestorePoint>& points) {
  std::string text;
  for (const RestorePoint& point : points) {
    text += base::Str(point.step.value(), " ", point.generation.value(), " ", point.in_memory ? 1 : 0, " ",
                      point.world_size, " ", point.committed ? 1 : 0, "\n");
  }
  return text;
}

base::Result<std::vector<RestorePoint>> DecodeRestorePoints(const std::string& text) {
  std::vector<RestorePoint> points;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::int64_t step = 0;
    std::uint64_t generation = 0;
    int in_memory = 0;
    int committed = 0;
    RestorePoint point;
    if (!(words >> step >> generation >> in_memory >> point.world_size >> committed)) {
      return Fail(Code::kInternal, "rank 0 sent a list of checkpoints that does not decode: ", line);
    }
    point.step = base::Step(step);
    point.generation = base::Generation(generation);
    point.in_memory = in_memory != 0;
    point.committed = committed != 0;
    points.push_back(point);
  }
  return points;
}

base::Result<std::optional<Resumed>> Resume(belay::detail::SessionState& run, StateSet& state, base::Clock& clock) {
  const auto start = clock.Now();
  const auto& environment = run.environment;
  // Each rank has its own connection: descriptors of files and memory come over it.
  auto client = checkpoint::Client::Connect(base::UnixTransport(), environment.socket, "trainer");
  base::Status connected;
  if (!client)
    connected = Wrap(client.error(), "cannot ask belayd at ", environment.socket, " for the job's checkpoints");
  BELAY_TRY(AgreeOn(run, connected));

  std::string text;
  base::Status asked;
  if (run.place.rank == 0) {
    const auto list = [&](checkpoint::Client& daemon) {
      return daemon.RestorePoints({environment.project, environment.job});
    };
    if (auto points = AskAcrossARestart(environment.socket, *client, list); points) {
      text = EncodeRestorePoints(RestoreCandidates(*points));
      if (text.empty() && !points->empty()) asked = AllSuspect(environment.job, *points);
    } else {
      asked = tl::unexpected(points.error());
    }
  }
  BELAY_TRY(AgreeOn(run, asked));
  BELAY_TRY(run.Broadcast(&text));
  BELAY_ASSIGN(const auto points, DecodeRestorePoints(text));

  base::Status last;
  for (std::size_t i = 0; i < points.size(); ++i) {
    checkpoint::RestoreStatistics statistics;
    Resumed resumed{points[i], {}};
    const auto load = [&](checkpoint::Client& daemon) {
      return LoadOne(run, state, daemon, points[i], &statistics, &resumed.metrics);
    };
    last = AgreeOn(run, AskAcrossARestart(environment.socket, *client, load));
    if (last) {
      if (run.place.rank == 0) {
        base::LogInfo("resumed", {{"step", points[i].step.value()},
                                  {"generation", points[i].generation.value()},
                                  {"source", points[i].in_memory ? "memory" : "disk"},
                                  {"read", base::HumanBytes(statistics.bytes_read)},
                                  {"seconds", std::chrono::duration<double>(clock.Now() - start).count()}});
      }
      return std::optional(std::move(resumed));
    }
    if (last.error().code == Code::kCommunication || !AnotherMayDo(last.error().code)) {
      return Wrap(last.error(), "cannot resume from ", Name(points[i]));
    }
    if (run.place.rank == 0) {
      const std::string next = i + 1 < points.size() ? Name(points[i + 1]) : "none is left";
      base::LogError("a checkpoint could not be loaded",
                     {{"checkpoint", Name(points[i])}, {"reason", last.error().Text()}, {"next", next}});
    }
  }
  if (points.empty()) return std::optional<Resumed>();
  return Wrap(last.error(), "none of the job's ", points.size(),
              " restorable checkpoints could be loaded; `belay ckpt verify` "
              "says what is damaged. The last one");
}

}  // namespace belay::runtime
