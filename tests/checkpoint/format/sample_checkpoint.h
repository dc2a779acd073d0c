// A small checkpoint of two ranks with everything in it that the format knows: every dtype, tensors cut by rows, by
// columns and by the deal, a scalar, an empty tensor, records, metrics. tests/python/sample.py knows the same values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/format/layout.h"
#include "checkpoint/format/manifest.h"

namespace belay::checkpoint::test {

std::vector<RankLayout> SampleWorld();
// All bytes of a tensor: element i has the value that sample.py describes.
std::string SampleContent(DType dtype, const std::vector<std::int64_t>& shape);
// File name -> bytes, the manifest among them.
std::map<std::string, std::string> SampleCheckpoint();

}  // namespace belay::checkpoint::test
