// Writes what test_tensorboard_files.py expects into the folder given.
#include <cstdio>
#include <limits>
#include <string>

#include "runtime/metrics/metrics_files.h"

int main(int argc, char** argv) {
  if (argc != 2) return 64;
  belay::runtime::MetricsFiles files(belay::base::PosixFileSystem(), belay::base::SystemClock(), argv[1], "sample.1");
  for (int step = 0; step < 300; ++step) {
    files.Scalars(step, {{"loss", 1.0 / 3 / (step + 1)}, {"learning_rate", 1e-3}});
  }
  files.Scalars(300, {{"loss", std::numeric_limits<double>::quiet_NaN()}});
  files.Text(300, "sample", "In the beginning\n\"quoted\" \xC3\xA9");
  std::puts("written");
  return files.Writing() ? 0 : 1;
}
