#include "examples/vision/data.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <fstream>
#include <string>
#include <system_error>
#include <vector>

namespace examples {
namespace {

std::string Word(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

class ImageDataTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "vision_data_test." + std::to_string(getpid());
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
    Images(3, std::string(3 * 4, '\x10'));
    Labels(3, {1, 2, 9});
  }
  // By hand: libtorch exports a std::filesystem of its own, whose remove_all crashes here.
  void TearDown() override {
    for (const char* name : {"/train-images-idx3-ubyte.gz", "/train-labels-idx1-ubyte.gz"}) {
      unlink((folder_ + name).c_str());
    }
    rmdir(folder_.c_str());
  }

  void Write(const std::string& name, const std::string& bytes) const {
    gzFile file = gzopen((folder_ + "/" + name).c_str(), "wb");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
    gzclose(file);
  }
  void Images(std::uint32_t count, const std::string& pixels) const {  // 2 x 2 each
    Write("train-images-idx3-ubyte.gz", Word(0x803) + Word(count) + Word(2) + Word(2) + pixels);
  }
  void Labels(std::uint32_t count, const std::string& labels) const {
    Write("train-labels-idx1-ubyte.gz", Word(0x801) + Word(count) + labels);
  }

  std::string folder_;
};

TEST_F(ImageDataTest, ReadsPixelsAndLabels) {
  Images(3, std::string("\0\0\0\0", 4) + "\xff\xff\xff\xff" + std::string(4, '\x80'));
  const ImageData data(folder_, "train");
  ASSERT_EQ(data.size(), 3);
  const auto batch = data.Take({2, 0});
  ASSERT_EQ(batch.images.sizes(), torch::IntArrayRef({2, 1, 2, 2}));
  EXPECT_EQ(batch.labels[0].item<std::int64_t>(), 9);
  EXPECT_EQ(batch.labels[1].item<std::int64_t>(), 1);
  EXPECT_GT(batch.images[0].min().item<double>(), batch.images[1].max().item<double>());
}

TEST_F(ImageDataTest, KeepsOnlyTheFirstImagesWhenAsked) { EXPECT_EQ(ImageData(folder_, "train", 2).size(), 2); }

TEST_F(ImageDataTest, RefusesDamagedFiles) {
  Images(4, std::string(3 * 4, 'x'));
  EXPECT_THROW(ImageData(folder_, "train"), BadData) << "fewer pixels than announced";
  Images(0xffffffff, "");
  EXPECT_THROW(ImageData(folder_, "train"), BadData) << "an impossible count";
  Write("train-images-idx3-ubyte.gz", "short");
  EXPECT_THROW(ImageData(folder_, "train"), BadData);
  Images(3, std::string(12, 'x'));
  Labels(2, {1, 2});
  EXPECT_THROW(ImageData(folder_, "train"), BadData) << "counts differ";
  Labels(3, {1, 2, 10});
  EXPECT_THROW(ImageData(folder_, "train"), BadData) << "a label too large";
  Labels(3, {1, 2, 3});
  EXPECT_NO_THROW(ImageData(folder_, "train"));
}

TEST_F(ImageDataTest, RefusesATruncatedGzipFile) {
  std::string noise;
  for (int i = 0; i < 4000 * 4; ++i) noise.push_back(static_cast<char>(i * 7919 % 253));
  Images(4000, noise);
  const auto path = folder_ + "/train-images-idx3-ubyte.gz";
  struct stat whole {};
  ASSERT_EQ(stat(path.c_str(), &whole), 0);
  ASSERT_EQ(truncate(path.c_str(), whole.st_size / 2), 0);
  EXPECT_THROW(ImageData(folder_, "train"), BadData);
}

TEST_F(ImageDataTest, NamesAMissingFile) {
  EXPECT_THROW(ImageData(folder_, "t10k"), std::system_error);
  EXPECT_THROW(ImageData("/no/such/folder", "train"), std::system_error);
}

TEST(AugmentTest, FollowsTheSeedAndKeepsTheShape) {
  const auto images = torch::rand({8, 1, 6, 6});
  const auto augment = [&](std::uint64_t seed) {
    torch::manual_seed(seed);
    return Augment(images, 2);
  };
  EXPECT_EQ(augment(1).sizes(), images.sizes());
  EXPECT_TRUE(torch::equal(augment(1), augment(1)));
  EXPECT_FALSE(torch::equal(augment(1), augment(2)));
}

TEST(AugmentTest, WithoutShiftAnImageIsItselfOrItsMirrorImage) {
  torch::manual_seed(1);
  const auto images = torch::rand({32, 1, 4, 4});
  const auto result = Augment(images, 0);
  int mirrored = 0;
  for (int i = 0; i < 32; ++i) {
    const bool flipped = torch::equal(result[i], images[i].flip({2}));
    EXPECT_TRUE(flipped || torch::equal(result[i], images[i]));
    mirrored += flipped ? 1 : 0;
  }
  EXPECT_GT(mirrored, 4);
  EXPECT_LT(mirrored, 28);
}

}  // namespace
}  // namespace examples
