#include "checkpoint/spread/join.h"

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint::spread {
namespace {

using base::Code;
using testing::HasSubstr;

class JoinTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(base::MakeDirectories(files_, "/home/.belayd")); }
  base::Result<DataFolders> Start(const Wishes& wishes = {}, const std::string& home = "/home") {
    return Join(files_, home, wishes, [this] {
      std::string id = base::Str(++ids_);
      return std::string(32 - id.size(), '0') + id;
    });
  }
  Code CodeOf(const base::Result<DataFolders>& joined) { return joined ? Code{} : joined.error().code; }
  std::vector<std::string> PathsOf(const base::Result<DataFolders>& joined) {
    std::vector<std::string> paths;
    EXPECT_TRUE(joined) << joined.error().Text();
    for (const OtherFolder& folder : joined.value_or(DataFolders()).others) {
      paths.push_back(folder.path + (folder.retired ? " (retired)" : ""));
    }
    return paths;
  }

  base::MemFileSystem files_;
  int ids_ = 0;
};

using Paths = std::vector<std::string>;

TEST_F(JoinTest, WithoutOthersNothingIsWritten) {
  EXPECT_EQ(PathsOf(Start()), Paths{});
  EXPECT_FALSE(base::Exists(files_, DataFoldersFile("/home")));
}

TEST_F(JoinTest, AFolderThatWasTakenInIsServedFromThenOn) {
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme1/belay", "/nvme2"}, .drop = {}})), (Paths{"/nvme1/belay", "/nvme2"}));
  EXPECT_EQ(PathsOf(Start()), (Paths{"/nvme1/belay", "/nvme2"}));
  files_.Crash();
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme2"}, .drop = {}})), (Paths{"/nvme1/belay", "/nvme2"}));
  EXPECT_EQ(ids_, 3) << "home's and two more, once";
}

TEST_F(JoinTest, AFolderThatIsNotThereStopsTheStart) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  ASSERT_OK(files_.Rename("/nvme1", "/unmounted"));
  for (const Wishes& wishes : {Wishes{}, Wishes{{"/nvme1"}, {}}}) {
    const auto joined = Start(wishes);
    EXPECT_EQ(CodeOf(joined), Code::kFolderMissing);
    EXPECT_THAT(joined.error().Text(), HasSubstr("is its drive mounted?"));
    EXPECT_FALSE(base::Exists(files_, "/nvme1")) << "nothing is made below a mount point";
  }
  ASSERT_OK(files_.Rename("/unmounted", "/nvme1"));
  EXPECT_EQ(PathsOf(Start()), Paths{"/nvme1"});
}

TEST_F(JoinTest, ADroppedFolderIsReadAndNotWrittenToAndComesBackWhenAskedFor) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  EXPECT_EQ(PathsOf(Start({.also = {}, .drop = {"/nvme1"}})), Paths{"/nvme1 (retired)"});
  EXPECT_EQ(PathsOf(Start()), Paths{"/nvme1 (retired)"});
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme1"}, .drop = {}})), Paths{"/nvme1"});
  EXPECT_EQ(CodeOf(Start({.also = {}, .drop = {"/nvme7"}})), Code::kNotFound);
  EXPECT_EQ(CodeOf(Start({.also = {"/nvme1"}, .drop = {"/nvme1"}})), Code::kInvalidArgument);
}

TEST_F(JoinTest, ADroppedFolderThatIsGoneIsForgottenUntilItIsTakenInAgain) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  ASSERT_OK(files_.Rename("/nvme1", "/unmounted"));
  EXPECT_EQ(PathsOf(Start({.also = {}, .drop = {"/nvme1"}})), Paths{});
  EXPECT_EQ(PathsOf(Start()), Paths{});
  ASSERT_OK(files_.Rename("/unmounted", "/nvme1"));
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme1"}, .drop = {}})), Paths{"/nvme1"}) << "it is still ours";
}

TEST_F(JoinTest, ADaemonThatTakesOverGoesOnWithoutADriveThatHasGone) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  ASSERT_OK(files_.Rename("/nvme1", "/unmounted"));
  EXPECT_EQ(CodeOf(Start()), Code::kFolderMissing);
  EXPECT_EQ(PathsOf(Start({.also = {}, .drop = {}, .go_on_without = true})), Paths{"/nvme1"})
      << "and does not forget it";
}

TEST_F(JoinTest, DrivesThatChangedPlacesAreNoticed) {
  ASSERT_TRUE(Start({.also = {"/nvme1", "/nvme2"}, .drop = {}}));
  ASSERT_OK(files_.Rename("/nvme1", "/x"));
  ASSERT_OK(files_.Rename("/nvme2", "/nvme1"));
  ASSERT_OK(files_.Rename("/x", "/nvme2"));
  const auto joined = Start();
  EXPECT_EQ(CodeOf(joined), Code::kFolderMissing);
  EXPECT_THAT(joined.error().Text(), HasSubstr("mounted where they were?"));
}

TEST_F(JoinTest, WhatBelongsToAnotherHomeIsRefused) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  ASSERT_OK(base::MakeDirectories(files_, "/second/.belayd"));
  EXPECT_EQ(CodeOf(Start({.also = {"/nvme1"}, .drop = {}}, "/second")), Code::kInvalidArgument);
  EXPECT_EQ(CodeOf(Start({.also = {"/home"}, .drop = {}}, "/second")), Code::kInvalidArgument) << "a home itself";
  EXPECT_OK(CheckIsHome(files_, "/home"));
  EXPECT_OK(CheckIsHome(files_, "/new"));
  EXPECT_EQ(CheckIsHome(files_, "/nvme1").error().code, Code::kInvalidArgument);
  ASSERT_OK(base::WriteFileDurably(files_, MembershipFile("/nvme1"), "rubbish"));
  EXPECT_EQ(CheckIsHome(files_, "/nvme1").error().code, Code::kInvalidArgument) << "it has been one";
}

TEST_F(JoinTest, AHomeMayMoveButNotMultiply) {
  ASSERT_TRUE(Start({.also = {"/nvme1"}, .drop = {}}));
  ASSERT_OK(files_.LinkSymbolic("/home", "/name"));
  EXPECT_EQ(PathsOf(Start({}, "/name")), Paths{"/nvme1"}) << "the same folder under another name";
  const auto record = base::ReadWholeFile(files_, DataFoldersFile("/home"), 1 << 20);
  ASSERT_TRUE(record);
  ASSERT_OK(base::MakeDirectories(files_, "/copy/.belayd"));
  ASSERT_OK(base::WriteFileDurably(files_, DataFoldersFile("/copy"), *record));
  EXPECT_EQ(CodeOf(Start({}, "/copy")), Code::kInvalidArgument);
  ASSERT_OK(files_.Rename("/home", "/moved"));
  EXPECT_EQ(CodeOf(Start({}, "/moved")), Code::kInvalidArgument) << "its original cannot be asked: is it a copy?";
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme1"}, .drop = {}}, "/moved")), Paths{"/nvme1"})
      << "somebody says that it is not";
  EXPECT_EQ(CodeOf(Start({}, "/copy")), Code::kInvalidArgument) << "it knows where its home is now";
}

TEST_F(JoinTest, FoldersLieApart) {
  for (const char* path : {"/home", "/home/more", "/"}) {
    EXPECT_EQ(CodeOf(Start({.also = {path}, .drop = {}})), Code::kInvalidArgument) << path;
  }
  ASSERT_TRUE(Start({.also = {"/nvme1/belay"}, .drop = {}}));
  EXPECT_EQ(CodeOf(Start({.also = {"/nvme1/belay/more"}, .drop = {}})), Code::kInvalidArgument);
  EXPECT_EQ(PathsOf(Start({.also = {"/home2"}, .drop = {}})), (Paths{"/nvme1/belay", "/home2"}));
}

// Whatever a start had done when it was cut off, the next one goes on from there, and what that one says stays so.
TEST_F(JoinTest, AStartThatIsCutOffIsRepeated) {
  for (const bool power_goes : {false, true}) {
    for (const auto operation : {base::FileOperation::kSyncDirectory, base::FileOperation::kRename}) {
      bool whole = false;
      for (std::uint64_t skip = 0; !whole; ++skip) {
        SCOPED_TRACE(base::Str(power_goes, " ", static_cast<int>(operation), " ", skip));
        ASSERT_LT(skip, 100U);
        base::MemFileSystem files;
        base::FaultyFileSystem faulty(files);
        ASSERT_OK(base::MakeDirectories(files, "/home/.belayd"));
        int ids = 0;
        const auto fresh = [&] { return std::string(31, '0') + base::Str(++ids); };
        faulty.Add({.path_contains = "", .operation = operation, .skip = skip, .count = 0});
        const Wishes wishes{{"/nvme1", "/nvme2"}, {}};
        whole = Join(faulty, "/home", wishes, fresh).has_value();
        if (power_goes) files.Crash(skip);
        EXPECT_EQ(PathsOf(Join(files, "/home", wishes, fresh)), (Paths{"/nvme1", "/nvme2"}));
        files.Crash();
        EXPECT_EQ(PathsOf(Join(files, "/home", {}, fresh)), (Paths{"/nvme1", "/nvme2"}));
      }
    }
  }
}

TEST_F(JoinTest, AFolderThatHomeDoesNotKnowYetIsTakenIn) {
  ASSERT_TRUE(base::ArmFaults("spread.before_record=io"));
  EXPECT_EQ(CodeOf(Start({.also = {"/nvme1"}, .drop = {}})), Code::kIo);
  base::DisarmFaults();
  EXPECT_TRUE(base::Exists(files_, MembershipFile("/nvme1")));
  EXPECT_EQ(PathsOf(Start()), Paths{});
  EXPECT_EQ(PathsOf(Start({.also = {"/nvme1"}, .drop = {}})), Paths{"/nvme1"});
}

}  // namespace
}  // namespace belay::checkpoint::spread
