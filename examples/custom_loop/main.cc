// The shortest program that shows belay's API: fits y = sin(x) on any number of ranks and survives being stopped.
//   belay run -n 2 --job sine -- ./custom_loop 2000
#include <cstdio>
#include <cstdlib>

#include <belay/checkpointer.h>
#include <belay/data_parallel.h>
#include <belay/sampler.h>
#include <belay/session.h>

int main(int argc, char** argv) {
  belay::Session session(argc, argv);  // MPI, device, process group, the job
  const std::int64_t steps = argc > 1 ? std::atoll(argv[1]) : 1000;

  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(1, 64), torch::nn::Tanh(), torch::nn::Linear(64, 1));
  model->to(session.device());
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(1e-2));
  const auto x = torch::linspace(-3, 3, 512, session.device()).unsqueeze(1), y = torch::sin(x);

  belay::DataParallel parallel(session, *model);                 // averages gradients over the ranks
  belay::PermutationSampler sampler(session, x.size(0), 32, 1);  // which samples, in which order
  belay::Checkpointer checkpointer(session, {.every = 100});     // everything that goes on after a stop
  checkpointer.add("model", *model).add("optimizer", optimizer).add("sampler", sampler);

  for (auto step = checkpointer.resume(); step < steps; ++step) {
    const auto batch = torch::tensor(sampler.next(), session.device());
    optimizer.zero_grad();
    const auto loss =
        parallel.forward([&] { return torch::mse_loss(model->forward(x.index({batch})), y.index({batch})); });
    loss.backward();
    optimizer.step();
    if (session.is_main() && (step + 1) % 100 == 0)
      std::printf("step %ld  loss %.17g\n", long(step + 1), loss.item<double>());
    if (checkpointer.step_done(step) == belay::Next::kStop) break;  // asked to stop, and saved
  }
  return session.finish();  // 0 done, 75 stopped and saved
}
