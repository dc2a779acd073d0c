#include "examples/vision/data.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

namespace examples {
namespace {

constexpr float kMean = 0.2860F, kDeviation = 0.3530F;  // of the training images, pixels in [0, 1]

// Decompressed whole: the largest file is 47 MB.
std::vector<std::uint8_t> ReadGzip(const std::string& path) {
  errno = 0;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw std::system_error(errno != 0 ? errno : ENOMEM, std::generic_category(), "cannot read " + path);
  std::vector<std::uint8_t> bytes;
  std::uint8_t block[65536];
  for (;;) {
    const int got = gzread(file.get(), block, sizeof block);
    int zlib_error = Z_OK;
    const char* reason = gzerror(file.get(), &zlib_error);
    if (zlib_error == Z_ERRNO) throw std::system_error(errno, std::generic_category(), "cannot read " + path);
    if (got < 0 || zlib_error != Z_OK) throw BadData(path + ": " + reason);
    if (got == 0) return bytes;
    bytes.insert(bytes.end(), block, block + got);
  }
}

// The values of an idx file of unsigned bytes; checks magic, count and length.
std::vector<std::uint8_t> ReadIdx(const std::string& path, std::vector<std::int64_t>& shape) {
  const auto bytes = ReadGzip(path);
  const auto word = [&](std::size_t i) {
    return static_cast<std::int64_t>(bytes[4 * i]) << 24 | bytes[4 * i + 1] << 16 | bytes[4 * i + 2] << 8 |
           bytes[4 * i + 3];
  };
  const std::size_t header = 4 * (1 + shape.size());
  if (bytes.size() < header) throw BadData(path + ": too short for an idx file");
  if (word(0) != 0x800 + static_cast<std::int64_t>(shape.size()))
    throw BadData(path + ": not an idx file of this kind");
  std::int64_t values = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    shape[i] = word(i + 1);
    // Each dimension below 2^20 and the product below 2^40, so that nothing overflows.
    if (shape[i] < 1 || shape[i] > (1 << 20) || values > (std::int64_t{1} << 40) / shape[i]) {
      throw BadData(path + ": impossible size " + std::to_string(shape[i]));
    }
    values *= shape[i];
  }
  if (bytes.size() - header != static_cast<std::size_t>(values)) {
    throw BadData(path + ": holds " + std::to_string(bytes.size() - header) + " values, its header says " +
                  std::to_string(values));
  }
  return {bytes.begin() + static_cast<std::ptrdiff_t>(header), bytes.end()};
}

}  // namespace

ImageData::ImageData(const std::string& folder, const std::string& name, std::int64_t limit) {
  std::vector<std::int64_t> images(3), labels(1);
  pixels_ = ReadIdx(folder + "/" + name + "-images-idx3-ubyte.gz", images);
  labels_ = ReadIdx(folder + "/" + name + "-labels-idx1-ubyte.gz", labels);
  if (images[0] != labels[0]) {
    throw BadData(folder + ": " + std::to_string(images[0]) + " images of " + name + " but " +
                  std::to_string(labels[0]) + " labels");
  }
  if (std::any_of(labels_.begin(), labels_.end(), [](std::uint8_t label) { return label > 9; })) {
    throw BadData(folder + ": a label of " + name + " is not in 0..9");
  }
  rows_ = images[1];
  columns_ = images[2];
  count_ = limit > 0 ? std::min(limit, images[0]) : images[0];
}

ImageData::Batch ImageData::Take(const std::vector<std::int64_t>& indices) const {
  const auto count = static_cast<std::int64_t>(indices.size()), area = rows_ * columns_;
  Batch batch{torch::empty({count, 1, rows_, columns_}), torch::empty({count}, torch::kInt64)};
  auto* pixel = batch.images.data_ptr<float>();
  auto* label = batch.labels.data_ptr<std::int64_t>();
  for (const auto index : indices) {
    const auto* in = pixels_.data() + index * area;
    pixel = std::transform(in, in + area, pixel, [](std::uint8_t value) {
      return (static_cast<float>(value) / 255.0F - kMean) / kDeviation;
    });
    *label++ = labels_[static_cast<std::size_t>(index)];
  }
  return batch;
}

torch::Tensor Augment(const torch::Tensor& images, std::int64_t shift) {
  const auto count = images.size(0), rows = images.size(2), columns = images.size(3);
  // Outside the image is black, which the normalisation has moved.
  const auto padded = torch::constant_pad_nd(images, {shift, shift, shift, shift}, -kMean / kDeviation);
  const auto offsets = torch::randint(0, 2 * shift + 1, {count, 2}, torch::kInt64);
  const auto mirrored = torch::rand({count}) < 0.5;
  const auto offset = offsets.accessor<std::int64_t, 2>();
  const auto mirror = mirrored.accessor<bool, 1>();
  auto result = torch::empty_like(images);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto crop = padded[i].narrow(1, offset[i][0], rows).narrow(2, offset[i][1], columns);
    result[i].copy_(mirror[i] ? crop.flip({2}) : crop);
  }
  return result;
}

}  // namespace examples
