// One way to write a fuzz target, two ways to run it: by libFuzzer (BELAY_FUZZ), and by standalone_main.cc over the
// kept corpus and seeded mutations of it, as an ordinary test. See README.md.
//
//   BELAY_FUZZ_TARGET(data) {
//     const auto decoded = DecodeThing(data);
//     if (!decoded) return;
//     FUZZ_CHECK(EncodeThing(*decoded) == data);
//   }
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

namespace belay::fuzz {

void Target(std::string_view data);  // what BELAY_FUZZ_TARGET defines

inline std::span<const std::byte> Bytes(std::string_view data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

}  // namespace belay::fuzz

// Aborts, so that both runners keep the input.
#define FUZZ_CHECK(condition)                                                                 \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      std::fprintf(stderr, "%s:%d: FUZZ_CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                           \
    }                                                                                         \
  } while (false)

#define BELAY_FUZZ_TARGET(data)                                                        \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) { \
    ::belay::fuzz::Target({reinterpret_cast<const char*>(bytes), size});               \
    return 0;                                                                          \
  }                                                                                    \
  void ::belay::fuzz::Target(std::string_view data)
