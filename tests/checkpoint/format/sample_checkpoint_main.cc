// sample_checkpoint <folder>: writes the sample checkpoint's files, and each rank's layout text, into the folder.
#include <filesystem>
#include <fstream>
#include <iostream>

#include "tests/checkpoint/format/sample_checkpoint.h"

int main(int argc, char** argv) {
  using namespace belay::checkpoint;
  if (argc != 2) {
    std::cerr << "usage: sample_checkpoint <folder>\n";
    return 64;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  auto files = test::SampleCheckpoint();
  for (const RankLayout& layout : test::SampleWorld()) {
    files["rank-0000" + std::to_string(layout.rank.value()) + ".layout"] = EncodeLayout(layout);
  }
  for (const auto& [name, bytes] : files) {
    std::ofstream out(folder / name, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) {
      std::cerr << "cannot write " << folder / name << "\n";
      return 74;
    }
  }
  return 0;
}
