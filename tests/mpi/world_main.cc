// Runs GoogleTest inside a Session; every rank ends with a failure if one rank saw one.
#include <gtest/gtest.h>

#include <memory>

#include "runtime/session/session_state.h"
#include "tests/mpi/world.h"

namespace belay::tests {
namespace {
std::unique_ptr<Session> world;
}
Session& World() { return *world; }
}  // namespace belay::tests

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  belay::tests::world = std::make_unique<belay::Session>(argc, argv);
  belay::Session& session = belay::tests::World();
  if (!session.is_main()) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    // The others speak up only where something fails.
    delete listeners.Release(listeners.default_result_printer());
    class Failures : public testing::EmptyTestEventListener {
      void OnTestPartResult(const testing::TestPartResult& result) override {
        if (!result.failed()) return;
        std::fprintf(stderr, "rank %d: %s:%d: %s\n", belay::tests::World().rank(),
                     result.file_name() == nullptr ? "" : result.file_name(), result.line_number(), result.message());
      }
    };
    listeners.Append(new Failures);
  }
  const int failed = RUN_ALL_TESTS();
  const auto any = session.state().AllReduceMax(failed);
  const int status = session.finish();
  return any && *any == 0 ? status : 1;
}
