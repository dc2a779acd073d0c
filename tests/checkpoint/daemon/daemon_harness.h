// A real belayd process on a scratch folder, and clients that speak raw protobuf to it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/format/shard_file.h"
#include "checkpoint/protocol/belayd.pb.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

struct DaemonOptions {
  std::string faults{};                  // BELAY_FAULTS
  std::vector<std::string> arguments{};  // besides --data-dir and --socket
  std::string program{};                 // empty: the belayd that was built
  std::vector<int> inherited{};          // descriptors that stay open in it
};

// One daemon at a time on one folder; killed, if it still runs, and the folder removed at the end.
class DaemonUnderTest {
 public:
  explicit DaemonUnderTest(std::string data_dir = {});  // empty: in the scratch folder
  ~DaemonUnderTest();
  // Returns once its socket answers.
  void Start(const DaemonOptions& options = {});
  // Starts it and answers how it ended by itself (within 20 s).
  int RunToEnd(const DaemonOptions& options = {});
  int WaitExit();  // status, or 128 + signal; -1 if it does not end within 20 s
  void Signal(int signal);
  int Stop();  // SIGTERM and WaitExit
  void Kill();
  bool Running();

  pid_t pid() const { return pid_; }
  const std::string& data_dir() const { return data_dir_; }
  const std::string& socket() const { return socket_; }
  const std::string& scratch() const { return scratch_; }
  std::string LogText() const;

 private:
  pid_t Spawn(const DaemonOptions& options);
  std::string scratch_, data_dir_, socket_;
  pid_t pid_ = 0;
  std::optional<int> status_;
};

struct Answer {
  bool broken = false;  // the connection ended instead
  wire::Response response;
  std::vector<base::UniqueFd> descriptors;
  std::uint32_t code() const { return response.failure().code(); }
  bool ok() const { return !broken && !response.has_failure(); }
};
// "ok", "connection broken" or the failure.
std::ostream& operator<<(std::ostream& out, const Answer& answer);

class RawClient {
 public:
  explicit RawClient(const std::string& socket);
  Answer Ask(wire::Request request);
  // Without waiting for the answer.
  void Post(wire::Request request);
  Answer Receive();
  const wire::Welcome& welcome() const { return welcome_; }
  bool connected() const { return connection_ != nullptr; }
  void Close() { connection_.reset(); }

  // The requests of tests, spelled shortly.
  Answer BeginRun(const std::string& job, int world, std::uint64_t continues = 0, int pid = 4242);
  Answer List();
  Answer Points(const std::string& job);
  Answer Open(const std::string& job, std::int64_t step, bool from_memory, const std::vector<std::string>& files);

 private:
  std::unique_ptr<base::Connection> connection_;
  wire::Welcome welcome_;
  std::uint64_t next_id_ = 1;
};

// One rank of a job whose state is one tensor "model.w" of 512 x 1024 floats, dealt out by rows. Its content follows
// from the step.
class TestRank {
 public:
  TestRank(const std::string& socket, std::string job, std::uint64_t generation, int rank, int world,
           std::uint32_t keep_last = 3);
  RawClient& client() { return client_; }
  const Answer& attached() const { return attached_; }
  Answer Begin(std::int64_t step);
  void Fill(std::int64_t step);  // copies state and header into staging memory
  Answer Seal(std::int64_t step);
  Answer Wait(std::int64_t step, std::uint32_t deadline_ms = 20000);
  std::string shard_name() const { return plan_.file_name; }
  std::uint64_t file_bytes() const { return plan_.FileBytes(); }

 private:
  RawClient client_;
  const std::string job_;
  const std::uint64_t generation_;
  const int rank_, world_;
  ShardPlan plan_;
  Answer attached_;
  base::Mapping staging_;
};

// Begin, fill and seal on every rank, then the outcome of rank 0. Broken if the daemon goes meanwhile.
Answer Save(std::vector<std::unique_ptr<TestRank>>& ranks, std::int64_t step);
std::vector<std::unique_ptr<TestRank>> AttachAll(const DaemonUnderTest& daemon, const std::string& job,
                                                 std::uint64_t generation, int world, std::uint32_t keep_last = 3);

// Reads a whole checkpoint through the daemon and checks every byte: digests and what Fill wrote. Empty: all well.
std::string CheckContent(RawClient& client, const std::string& job, std::int64_t step, int world, bool from_memory);
// The steps that the daemon lists for the job, ascending.
std::vector<std::int64_t> StepsListed(RawClient& client, const std::string& job);
// Everything in the job's folder that is neither a listed checkpoint nor .generation, and every *.tmp below it.
std::vector<std::string> LeftOver(const DaemonUnderTest& daemon, const std::string& job,
                                  const std::vector<std::int64_t>& listed);

}  // namespace belay::checkpoint
