#include "checkpoint/index/rocksdb_index.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/contract/index_contract.h"

namespace belay::checkpoint {
namespace {

class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "/belay-index-XXXXXX";
    path = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

struct OnRocks {
  Folder folder;
  std::unique_ptr<base::Index> rocks = *OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
  base::Index& index() { return *rocks; }
};

void Put(base::Index& index, const std::string& key, const std::string& value) {
  base::IndexBatch batch;
  batch.Put(key, value);
  ASSERT_TRUE(index.Write(batch));
}

TEST(RocksIndexTest, WhatWasWrittenIsThereAfterReopening) {
  Folder folder;
  {
    auto index = OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
    ASSERT_TRUE(index) << index.error().Text();
    Put(**index, "a", "1");
  }
  auto index = OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
  ASSERT_TRUE(index) << index.error().Text();
  EXPECT_EQ(*(*index)->Get("a"), "1");
  EXPECT_TRUE(std::filesystem::exists(folder.path + "/index.reserve"));
}

TEST(RocksIndexTest, ADamagedDatabaseIsAnErrorAtOpening) {
  Folder folder;
  {
    auto index = OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
    ASSERT_TRUE(index);
    Put(**index, "a", "1");
  }
  std::ofstream(folder.path + "/index/CURRENT") << "nonsense";
  const auto index = OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
  EXPECT_FALSE(index);
}

TEST(RocksIndexTest, ASecondOpenerIsRefused) {
  Folder folder;
  auto first = OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index");
  ASSERT_TRUE(first);
  EXPECT_FALSE(OpenRocksIndex(base::PosixFileSystem(), folder.path + "/index"));
}

}  // namespace
}  // namespace belay::checkpoint

namespace belay::base {
INSTANTIATE_TYPED_TEST_SUITE_P(RocksDb, IndexContract, checkpoint::OnRocks);
}  // namespace belay::base
