// On a real GPU; skipped where there is none.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "runtime/cuda/staging_copier.h"

namespace belay::runtime {
namespace {

class CudaEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
  }
};

TEST_F(CudaEngineTest, CopiesLargeAndPackedTensorsWhileTheTrainingStreamGoesOn) {
  const std::vector<std::size_t> sizes = {100, 16, 3, 9'000'000, 255, 4096};
  std::size_t total = 0;
  for (const auto size : sizes) total += size;
  void* memory = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::span staging(static_cast<std::byte*>(memory), total);

  auto engine = MakeCudaCopyEngine(0);
  ASSERT_TRUE(engine) << engine.error().Text();
  StagingCopier copier(std::move(*engine));
  ASSERT_TRUE(copier.Register(staging));
  std::vector<std::byte*> tensors;
  std::vector<checkpoint::Copier::Copy> copies;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    void* tensor = nullptr;
    ASSERT_EQ(cudaMalloc(&tensor, sizes[i]), cudaSuccess);
    // The default stream is torch's current one unless somebody changes it.
    ASSERT_EQ(cudaMemsetAsync(tensor, static_cast<int>(i + 1), sizes[i], nullptr), cudaSuccess);
    tensors.push_back(static_cast<std::byte*>(tensor));
    copies.push_back({tensors.back(), staging.data() + offset, sizes[i]});
    offset += sizes[i];
  }
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(copier.MarkStepEnd());
    ASSERT_TRUE(copier.Begin(copies));
    ASSERT_TRUE(copier.GuardUpdate());
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      ASSERT_EQ(cudaMemsetAsync(tensors[i], static_cast<int>(i + 1) + 16 * (round + 1), sizes[i], nullptr),
                cudaSuccess);
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      ASSERT_TRUE(copier.Land(i, i));
      const std::vector<std::byte> expected(sizes[i], static_cast<std::byte>(i + 1 + 16 * round));
      ASSERT_EQ(std::memcmp(copies[i].destination, expected.data(), sizes[i]), 0)
          << "tensor " << i << ", round " << round;
    }
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const auto waited = copier.TakeStreamWait();
    ASSERT_TRUE(waited) << "the stream has passed the wait";
    EXPECT_GE(*waited, 0);
    EXPECT_LT(*waited, 10);
    EXPECT_FALSE(copier.TakeStreamWait());
  }
  copier.Unregister(staging);
  for (auto* tensor : tensors) cudaFree(tensor);
  munmap(memory, total);
}

TEST_F(CudaEngineTest, AFailureLeavesNoErrorForTorchToFind) {
  auto engine = MakeCudaCopyEngine(0);
  ASSERT_TRUE(engine) << engine.error().Text();
  EXPECT_FALSE((*engine)->TrainingWaited()) << "nothing waited yet";
  EXPECT_FALSE((*engine)->RegisterHost({}));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace belay::runtime
