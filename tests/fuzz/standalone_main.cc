// Runs a fuzz target without libFuzzer: first every file of the corpus, then seeded mutations of them. See README.md.
//
//   <name>_fuzz [--seed=N] [--mutations=N] [--dict=FILE] CORPUS      or      <name>_fuzz --replay FILE
#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/base/rng.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace {

// What the handler of a crash needs; it may call only what is safe in a signal handler.
std::string crash_file;
const std::string* current = nullptr;

void KeepInput(int signal) {
  static const char kWords[] = "the input is kept in ";
  if (current != nullptr) {
    const int file = ::open(crash_file.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    bool kept = file >= 0 && ::write(file, current->data(), current->size()) == static_cast<ssize_t>(current->size());
    kept = kept && ::write(STDERR_FILENO, kWords, sizeof(kWords) - 1) > 0 &&
           ::write(STDERR_FILENO, crash_file.data(), crash_file.size()) > 0 && ::write(STDERR_FILENO, "\n", 1) > 0;
    if (!kept) std::signal(signal, SIG_DFL);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void RunOne(const std::string& input) {
  current = &input;
  // A copy of exact size on the heap, so that a sanitizer sees a read behind its end.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  current = nullptr;
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::cerr << "cannot read " << path << "\n";
    std::exit(66);
  }
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// The quoted words of a libFuzzer dictionary, with \\ \" and \xNN.
std::vector<std::string> Dictionary(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = std::min(text.find('\n', i), text.size());
    const std::string line = text.substr(i, end - i);
    i = end + 1;
    const std::size_t open = line.find('"'), close = line.rfind('"');
    if (line.empty() || line[0] == '#' || open == close) continue;
    std::string word;
    for (std::size_t k = open + 1; k < close; ++k) {
      if (line[k] != '\\') {
        word += line[k];
      } else if (line[k + 1] == 'x') {
        word += static_cast<char>(std::stoi(line.substr(k + 2, 2), nullptr, 16));
        k += 3;
      } else {
        word += line[++k];
      }
    }
    words.push_back(word);
  }
  return words;
}

std::string Mutate(belay::base::Rng& rng, const std::vector<std::string>& seeds,
                   const std::vector<std::string>& words) {
  std::string input = seeds[rng.Below(seeds.size())];
  const auto place = [&] { return static_cast<std::size_t>(rng.Below(input.size() + 1)); };
  for (std::uint64_t n = 1 + rng.Below(4); n > 0; --n) {
    const std::size_t at = place();
    const std::size_t length =
        std::min<std::size_t>(input.size() - at, rng.Below(4) == 0 ? rng.Below(200) : rng.Below(8));
    switch (rng.Below(9)) {
      case 0:  // flip a bit
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << rng.Below(8)));
        break;
      case 1:  // any byte
        if (at < input.size()) input[at] = static_cast<char>(rng.Next());
        break;
      case 2:
        input.erase(at, length);
        break;
      case 3:  // double a stretch
        input.insert(place(), input.substr(at, length));
        break;
      case 4:
        input.resize(at);
        break;
      case 5: {  // a number that is on an edge
        static const char* const kNumbers[] = {"0",
                                               "-1",
                                               "1",
                                               "2147483648",
                                               "4294967296",
                                               "9223372036854775807",
                                               "18446744073709551615",
                                               "18446744073709551616",
                                               "1e400",
                                               "0.5"};
        input.replace(at, std::min<std::size_t>(length, 3), kNumbers[rng.Below(std::size(kNumbers))]);
        break;
      }
      case 6:  // a word of the dictionary
        if (!words.empty()) input.replace(at, rng.Below(2) * length, words[rng.Below(words.size())]);
        break;
      case 7: {  // the rest of another seed
        const std::string& other = seeds[rng.Below(seeds.size())];
        input = input.substr(0, at) + other.substr(std::min<std::size_t>(other.size(), rng.Below(other.size() + 1)));
        break;
      }
      default:  // a digit becomes another
        if (const std::size_t digit = input.find_first_of("0123456789", at); digit != std::string::npos) {
          input[digit] = static_cast<char>('0' + rng.Below(10));
        }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 1, mutations = 20'000;
  std::string corpus, replay, dictionary;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto number = [&](std::string_view flag, std::uint64_t& value) {
      if (!argument.starts_with(flag)) return false;
      std::from_chars(argument.data() + flag.size(), argument.data() + argument.size(), value);
      return true;
    };
    if (number("--seed=", seed) || number("--mutations=", mutations)) continue;
    if (argument == "--replay" && i + 1 < argc) {
      replay = argv[++i];
    } else if (argument.starts_with("--dict=")) {
      dictionary = argument.substr(7);
    } else {
      corpus = argument;
    }
  }
  crash_file = std::filesystem::path(argv[0]).filename().string() + ".crash";
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, KeepInput);
  if (!replay.empty()) {
    RunOne(ReadFile(replay));
    return 0;
  }

  std::vector<std::filesystem::path> paths;
  if (std::filesystem::is_directory(corpus)) {
    for (const auto& entry : std::filesystem::directory_iterator(corpus)) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) {
    std::cerr << "no corpus in \"" << corpus << "\"\n";
    return 66;
  }
  std::vector<std::string> seeds;
  for (const auto& path : paths) RunOne(seeds.emplace_back(ReadFile(path)));
  RunOne("");
  std::vector<std::string> words;
  if (!dictionary.empty()) words = Dictionary(ReadFile(dictionary));
  std::cout << seeds.size() << " kept inputs, then " << mutations << " mutations from --seed=" << seed << std::endl;
  belay::base::Rng rng(seed);
  for (std::uint64_t n = 0; n < mutations; ++n) RunOne(Mutate(rng, seeds, words));
  return 0;
}
