#include "belay/data_parallel.h"

#include <gtest/gtest.h>

#include <csignal>

#include "belay/sampler.h"
#include "runtime/session/session_state.h"
#include "tests/mpi/world.h"

namespace belay {
namespace {

using tests::World;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(6, 33));
    norm = register_module("norm", torch::nn::BatchNorm1d(33));
    second = register_module("second", torch::nn::Linear(33, 5));
  }
  torch::Tensor forward(const torch::Tensor& x) { return second(torch::relu(norm(first(x)))); }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
};

// The same on every rank: the batch of `rank` in `step`.
std::pair<torch::Tensor, torch::Tensor> Batch(int rank, int step) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1000 + step * 64 + rank);
  auto x = torch::randn({8, 6}, generator);
  return {x, x.narrow(1, 0, 5) * 0.5};
}

torch::Tensor LossOf(Net& net, int rank, int step) {
  const auto [x, y] = Batch(rank, step);
  return torch::mse_loss(net.forward(x), y);
}

// Gradients as bytes, so that comparisons are exact.
torch::Tensor Flat(Net& net, bool gradients) {
  std::vector<torch::Tensor> parts;
  for (auto& parameter : net.parameters())
    parts.push_back((gradients ? parameter.grad() : parameter).detach().flatten());
  return torch::cat(parts);
}

TEST(DataParallelTest, AveragesTheGradientsOfAllRanks) {
  torch::manual_seed(3);
  Net net;
  net.norm->eval();  // else its batch statistics would differ from the reference's
  DataParallel parallel(World(), net);
  for (int step = 0; step < 3; ++step) {
    net.zero_grad(step % 2 == 0);  // with and without set_to_none
    parallel.forward([&] { return LossOf(net, World().rank(), step); }).backward();
    const auto got = Flat(net, true).clone();

    torch::Tensor wanted;
    for (int rank = 0; rank < World().world_size(); ++rank) {
      net.zero_grad();
      LossOf(net, rank, step).backward();  // not through forward(): stays on this rank
      const auto one = Flat(net, true) * (1.0 / World().world_size());
      wanted = rank == 0 ? one : wanted + one;
    }
    // Scaled, then added up in rank order: exactly what one process gets.
    EXPECT_TRUE(torch::equal(got, wanted)) << (got - wanted).abs().max();
  }
}

TEST(DataParallelTest, StartsFromRankZero) {
  torch::manual_seed(100 + World().rank());
  Net net;
  net.norm->running_mean.fill_(World().rank());
  DataParallel parallel(World(), net);
  std::vector<torch::Tensor> rank0 = {Flat(net, false).clone()};
  World().process_group()->broadcast(rank0)->wait();
  EXPECT_TRUE(torch::equal(Flat(net, false), rank0[0]));
  EXPECT_TRUE(torch::equal(net.norm->running_mean, torch::zeros({33})));
}

TEST(DataParallelTest, TakesRankZerosBuffersBeforeEachTrainingForward) {
  Net net;
  DataParallel parallel(World(), net);
  parallel.forward([&] { return LossOf(net, World().rank(), 0); }).backward();  // statistics now differ by rank
  torch::Tensor before;
  parallel
      .forward([&] {
        before = net.norm->running_mean.clone();
        return LossOf(net, World().rank(), 1);
      })
      .backward();
  std::vector<torch::Tensor> rank0 = {before.clone()};
  World().process_group()->broadcast(rank0)->wait();
  EXPECT_TRUE(torch::equal(before, rank0[0]));
  EXPECT_GT(before.abs().sum().item<double>(), 0);
  // Not in evaluation: there every rank may run alone.
  net.eval();
  net.norm->running_mean.fill_(World().rank());
  const torch::NoGradGuard no_grad;
  parallel.forward([&] { return LossOf(net, World().rank(), 2); });
  EXPECT_EQ(net.norm->running_mean[0].item<int>(), World().rank());
}

TEST(DataParallelTest, SyncsBuffersBeforeAnEvaluation) {
  Net net;
  // Even where training is told to leave buffers alone.
  DataParallel parallel(World(), net, {.broadcast_buffers = false});
  parallel.forward([&] { return LossOf(net, World().rank(), 0); }).backward();
  const auto own = net.norm->running_mean.clone();
  std::vector<torch::Tensor> rank0 = {own.clone()};
  World().process_group()->broadcast(rank0)->wait();
  EXPECT_EQ(torch::equal(own, rank0[0]), World().rank() == 0) << "each rank saw samples of its own";

  net.eval();
  parallel.sync_buffers();
  EXPECT_TRUE(torch::equal(net.norm->running_mean, rank0[0]));
  EXPECT_EQ(net.norm->num_batches_tracked.item<std::int64_t>(), 1);
  const auto [x, y] = Batch(0, 1);
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> output = {parallel.forward([&] { return net.forward(x); })};
  const auto here = output[0].clone();
  World().process_group()->broadcast(output)->wait();
  EXPECT_TRUE(torch::equal(here, output[0])) << "all ranks judge one model";
}

torch::Tensor Train(int steps, std::int64_t bucket_bytes, const std::function<void(int, Net&)>& at_step = {}) {
  torch::manual_seed(5);
  Net net;
  DataParallel parallel(World(), net, {.bucket_bytes = bucket_bytes});
  torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  for (int step = 0; step < steps; ++step) {
    if (at_step) at_step(step, net);
    optimizer.zero_grad();
    parallel.forward([&] { return LossOf(net, World().rank(), step); }).backward();
    optimizer.step();
  }
  return Flat(net, false).clone();
}

TEST(DataParallelTest, IsBitIdenticalFromRunToRunAndInAnyBuckets) {
  const auto once = Train(6, 25 << 20);
  EXPECT_TRUE(torch::equal(once, Train(6, 25 << 20)));
  EXPECT_TRUE(torch::equal(once, Train(6, 200)));
}

TEST(DataParallelTest, ContinuesBitIdenticalInANewWrapper) {
  const auto once = Train(6, 300);
  // As after a resume: a new Reducer in the middle.
  torch::manual_seed(5);
  Net net;
  auto parallel = std::make_unique<DataParallel>(World(), net, DataParallelOptions{.bucket_bytes = 300});
  torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  for (int step = 0; step < 6; ++step) {
    if (step == 3) {
      parallel = nullptr;
      parallel = std::make_unique<DataParallel>(World(), net, DataParallelOptions{.bucket_bytes = 300});
    }
    optimizer.zero_grad();
    parallel->forward([&] { return LossOf(net, World().rank(), step); }).backward();
    optimizer.step();
  }
  EXPECT_TRUE(torch::equal(once, Flat(net, false)));
}

TEST(DataParallelTest, AddsUpMicroBatchesBeforeReducing) {
  torch::manual_seed(3);
  Net net;
  net.norm->eval();
  DataParallel parallel(World(), net);
  net.zero_grad();
  parallel.forward([&] { return LossOf(net, World().rank(), 0); }, false).backward();
  const auto alone = Flat(net, true).clone();
  net.zero_grad();
  LossOf(net, World().rank(), 0).backward();
  EXPECT_TRUE(torch::equal(alone, Flat(net, true)));
  parallel.forward([&] { return LossOf(net, World().rank(), 1); }).backward();
  std::vector<torch::Tensor> rank0 = {Flat(net, true).clone()};
  World().process_group()->broadcast(rank0)->wait();
  EXPECT_TRUE(torch::equal(Flat(net, true), rank0[0]));
}

TEST(DataParallelTest, LeavesGradientsAloneWhenMade) {
  Net net;
  for (auto& parameter : net.parameters()) parameter.mutable_grad() = torch::ones_like(parameter);
  DataParallel parallel(World(), net);
  EXPECT_TRUE(torch::equal(Flat(net, true), torch::ones_like(Flat(net, true))));
}

TEST(DataParallelTest, FindsUnusedParametersIfAsked) {
  Net net;
  DataParallel parallel(World(), net, {.find_unused_parameters = true});
  for (int step = 0; step < 3; ++step) {
    net.zero_grad();
    parallel.forward([&] { return net.first(Batch(World().rank(), step).first).sum(); }).backward();
    EXPECT_TRUE(net.first->weight.grad().defined());
  }
}

TEST(SamplerInASession, TakesItsPlaceFromIt) {
  PermutationSampler sampler(World(), 100, 2, 7);
  PermutationSampler same(100, 2, 7, World().rank(), World().world_size());
  EXPECT_EQ(sampler.next(), same.next());
}

TEST(StopVoteInASession, IsReadByAllRanksAtTheSameStep) {
  // Only the last rank is told, during step 4.
  auto& state = World().state();
  EXPECT_TRUE(state.VoteStep());
  int stopped_at = -1;
  for (int step = 0; step < 20 && stopped_at < 0; ++step) {
    if (step == 4 && World().rank() == World().world_size() - 1) std::raise(SIGUSR1);
    const auto stop = state.VoteStep();
    EXPECT_TRUE(stop.has_value());
    if (!stop || *stop) stopped_at = step;
  }
  const auto first = state.AllReduceMin(stopped_at);
  const auto last = state.AllReduceMax(stopped_at);
  EXPECT_EQ(*first, *last);
  EXPECT_EQ(stopped_at, World().world_size() == 1 ? 4 : 5);
}

TEST(ControlPlane, CarriesBytesBetweenRanks) {
  auto& state = World().state();
  const int rank = World().rank();
  std::string bytes = rank == 0 ? std::string("from\0zero", 9) : "overwritten";
  EXPECT_TRUE(state.Broadcast(&bytes, 0));
  EXPECT_EQ(bytes, std::string("from\0zero", 9));
  const auto all = state.AllGather(std::string(rank * 3, static_cast<char>('a' + rank)));  // rank 0: nothing
  EXPECT_TRUE(all.has_value());
  for (int i = 0; i < World().world_size(); ++i) EXPECT_EQ((*all)[i], std::string(i * 3, static_cast<char>('a' + i)));
  EXPECT_EQ(*state.AllReduceMin(rank + 5), 5);
  EXPECT_EQ(*state.AllReduceMax(-rank), 0);
}

}  // namespace
}  // namespace belay
