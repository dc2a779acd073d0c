// The wrappers in runtime/base/fault.
#include <bit>
#include <thread>

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/fault/faulty_index.h"
#include "runtime/base/fault/faulty_transport.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "runtime/base/sim/sim_clock.h"
#include "runtime/base/sim/sim_transport.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using Mode = OpenOptions::Mode;

TEST(FaultyFileSystemTest, FailsTheNamedOperationAsOftenAsAsked) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  const std::size_t rule = files.Add({.path_contains = "manifest",
                                      .operation = FileOperation::kRename,
                                      .code = Code::kNoSpace,
                                      .skip = 1,
                                      .count = 2});
  EXPECT_OK(WriteFileDurably(files, "/manifest", "1"));
  EXPECT_CODE(WriteFileDurably(files, "/manifest", "2"), kNoSpace);
  EXPECT_OK(WriteFileDurably(files, "/other", "2"));
  EXPECT_CODE(WriteFileDurably(files, "/manifest", "3"), kNoSpace);
  EXPECT_OK(WriteFileDurably(files, "/manifest", "4"));
  EXPECT_EQ(files.Fired(rule), 2U);
  EXPECT_EQ(*ReadWholeFile(files, "/manifest", 9), "4");
}

TEST(FaultyFileSystemTest, ADiskThatLiesSaysYesAndDoesNothing) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  for (const FileOperation operation : {FileOperation::kSync, FileOperation::kSyncDirectory}) {
    files.Clear();
    const std::size_t rule = files.Add({.operation = operation, .kind = FileFault::Kind::kSwallow});
    EXPECT_OK(WriteFileDurably(files, "/f", "x"));
    EXPECT_EQ(files.Fired(rule), 1U);
    memory.Crash();
    EXPECT_NE(ReadWholeFile(memory, "/f", 9).value_or("nothing"), "x");
  }
}

TEST(FaultyFileSystemTest, EveryOperationCanFail) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  ASSERT_OK(memory.MakeDirectory("/d", 0700));
  ASSERT_OK(WriteFileDurably(memory, "/f", "x"));
  auto open = files.Open("/f", {.mode = Mode::kReadWrite});
  ASSERT_OK(open);
  File& file = **open;
  const auto failing = [&](FileOperation operation, auto&& call) {
    files.Clear();
    files.Add({.operation = operation, .code = Code::kReadOnly});
    EXPECT_CODE(call(), kReadOnly) << static_cast<int>(operation);
    files.Clear();
  };
  char room[1];
  failing(FileOperation::kOpen, [&] { return files.Open("/f", {}); });
  failing(FileOperation::kWrite, [&] { return file.WriteAt(0, Bytes("y")); });
  failing(FileOperation::kRead, [&] { return file.ReadAt(0, std::as_writable_bytes(std::span(room))); });
  failing(FileOperation::kTruncate, [&] { return file.Truncate(0); });
  failing(FileOperation::kPreallocate, [&] { return file.Preallocate(9); });
  failing(FileOperation::kSync, [&] { return file.Sync(); });
  failing(FileOperation::kRename, [&] { return files.Rename("/f", "/g"); });
  failing(FileOperation::kLink, [&] { return files.Link("/f", "/g"); });
  failing(FileOperation::kRemove, [&] { return files.Remove("/f"); });
  failing(FileOperation::kRemoveDirectory, [&] { return files.RemoveDirectory("/d"); });
  failing(FileOperation::kMakeDirectory, [&] { return files.MakeDirectory("/e", 0700); });
  failing(FileOperation::kSyncDirectory, [&] { return files.SyncDirectory("/"); });
  failing(FileOperation::kList, [&] { return files.List("/"); });
  failing(FileOperation::kStat, [&] { return files.Stat("/f"); });
  failing(FileOperation::kSpace, [&] { return files.Space("/"); });
  failing(FileOperation::kClose, [&] { return file.Close(); });
  EXPECT_THAT(*memory.List("/"), testing::ElementsAre("d", "f"));
  EXPECT_EQ(*ReadWholeFile(memory, "/f", 9), "x");
}

TEST(FaultyFileSystemTest, AShortWriteLeavesHalf) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  files.Add({.kind = FileFault::Kind::kShortWrite, .code = Code::kNoSpace});
  auto file = files.Open("/f", {.mode = Mode::kCreateExclusive});
  EXPECT_CODE((*file)->WriteAt(0, Bytes("12345678")), kNoSpace);
  EXPECT_EQ(*ReadWholeFile(memory, "/f", 100), "1234");
}

TEST(FaultyFileSystemTest, ABitFlipsSilently) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  const std::string good(1000, 'x');
  ASSERT_OK(WriteFileDurably(memory, "/f", good));
  const auto wrong_bits = [&](const std::string& got) {
    int bits = 0;
    for (std::size_t i = 0; i < good.size(); ++i) bits += std::popcount(static_cast<unsigned char>(got[i] ^ good[i]));
    return bits;
  };
  files.Add({.operation = FileOperation::kRead, .kind = FileFault::Kind::kBitFlip, .seed = 7});
  EXPECT_EQ(wrong_bits(*ReadWholeFile(files, "/f", 2000)), 1);
  EXPECT_EQ(wrong_bits(*ReadWholeFile(files, "/f", 2000)), 0) << "only the read was wrong";
  files.Add({.operation = FileOperation::kWrite, .kind = FileFault::Kind::kBitFlip});
  EXPECT_OK(WriteFileDurably(files, "/f", good));
  EXPECT_EQ(wrong_bits(*ReadWholeFile(files, "/f", 2000)), 1);
}

TEST(FaultyIndexTest, RefusedWritesLeaveNothing) {
  MemoryIndex memory;
  FaultyIndex index(memory);
  IndexBatch batch;
  batch.Put("a", "1");
  index.FailWrites(Code::kNoSpace, 1, 1);
  EXPECT_OK(index.Write(IndexBatch()));
  EXPECT_CODE(index.Write(batch), kNoSpace);
  EXPECT_EQ(*memory.Get("a"), std::nullopt);
  EXPECT_OK(index.Write(batch));
  index.FailWrites(Code::kIo, 0, 0);
  for (int i = 0; i < 3; ++i) EXPECT_CODE(index.Write(batch), kIo);
  index.Mend();
  EXPECT_OK(index.Write(batch));
}

TEST(FaultyIndexTest, ALostAnswerHasHappened) {
  MemoryIndex memory;
  FaultyIndex index(memory);
  IndexBatch batch;
  batch.Put("a", "1");
  index.LoseAnswer(Code::kIo);
  EXPECT_CODE(index.Write(batch), kIo);
  EXPECT_EQ(*memory.Get("a"), "1");
}

TEST(FaultyIndexTest, ReadsFail) {
  MemoryIndex memory;
  FaultyIndex index(memory);
  index.FailReads(Code::kCorrupt, 0, 2);
  EXPECT_CODE(index.Get("a"), kCorrupt);
  EXPECT_CODE(index.Scan("a"), kCorrupt);
  EXPECT_OK(index.Get("a"));
}

class FaultyTransportTest : public testing::Test {
 protected:
  void SetUp() override {
    listener_ = *transport_.Listen("/s");
    client_ = *transport_.Connect("/s", std::chrono::seconds(1));
    server_ = **listener_->Accept();
  }
  static Message Text(std::string body) {
    Message message;
    message.body = std::move(body);
    return message;
  }
  std::string Next(Connection& connection) { return (*connection.Receive(std::chrono::seconds(1)))->body; }

  SimClock clock_;
  SimTransport sim_{clock_, SimWaiting::kJumps};
  FaultyTransport transport_{sim_};
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Connection> client_, server_;
};

TEST_F(FaultyTransportTest, TheMessageArrivesAndTheAnswerDoesNot) {
  transport_.ResetAfterSend(1);
  EXPECT_OK(client_->Send(Text("first")));
  EXPECT_OK(client_->Send(Text("second")));
  EXPECT_EQ(Next(*server_), "first");
  EXPECT_EQ(Next(*server_), "second");
  EXPECT_CODE(client_->Receive(std::chrono::seconds(1)), kUnavailable);
  EXPECT_CODE(client_->Send(Text("third")), kUnavailable);
  EXPECT_FALSE(server_->Receive(std::chrono::seconds(1))->has_value());
}

TEST_F(FaultyTransportTest, DroppedMessagesAreNotNoticedByTheSender) {
  transport_.DropSends(1, 1);
  for (const char* body : {"a", "b", "c"}) EXPECT_OK(client_->Send(Text(body)));
  EXPECT_EQ(Next(*server_), "a");
  EXPECT_EQ(Next(*server_), "c");
}

TEST_F(FaultyTransportTest, RefusesConnects) {
  transport_.RefuseConnects(1);
  EXPECT_CODE(transport_.Connect("/s", std::chrono::seconds(1)), kUnavailable);
  EXPECT_OK(transport_.Connect("/s", std::chrono::seconds(1)));
}

}  // namespace
}  // namespace belay::base
