// What belay demands of JSON from a disk or a peer, before it is parsed into a tree.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace belay::checkpoint {

// Checks that `text` is one JSON object in valid UTF-8, that no object in it names a key twice (most parsers keep the
// last silently), that it nests at most `depth_max` deep (1: an object of plain values) and that nothing but whitespace
// follows. kCorrupt says what and where. Afterwards a plain parse of the text cannot fail.
base::Status CheckJson(std::string_view text, std::size_t depth_max);

// `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
std::string JsonString(std::string_view text);

bool IsUtf8(std::string_view text);
// `text` with U+FFFD in place of every byte that is not UTF-8.
std::string ToUtf8(std::string_view text);

}  // namespace belay::checkpoint
