// Fashion-MNIST: 28 x 28 grey images of ten kinds of clothing, as the gzipped idx files of Debian's
// dataset-fashion-mnist. Format: big-endian u32 magic (0x803 images, 0x801 labels), count, and for images rows and
// columns; then unsigned bytes (http://yann.lecun.com/exdb/mnist/).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/types.h>

namespace examples {

// A file that is there but not what it should be.
class BadData : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ImageData {
 public:
  // Reads <folder>/<name>-images-idx3-ubyte.gz and -labels-idx1-ubyte.gz; name is "train" or "t10k". `limit` > 0 keeps
  // the first so many. Throws std::system_error (cannot be read) or BadData.
  ImageData(const std::string& folder, const std::string& name, std::int64_t limit = 0);

  std::int64_t size() const { return count_; }

  struct Batch {
    torch::Tensor images;  // [n, 1, rows, columns] float, mean 0 and deviation 1 over the training set
    torch::Tensor labels;  // [n] int64
  };
  Batch Take(const std::vector<std::int64_t>& indices) const;

 private:
  std::int64_t count_ = 0, rows_ = 0, columns_ = 0;
  std::vector<std::uint8_t> pixels_, labels_;
};

// Each image moved by up to `shift` pixels either way (zero padding, random crop) and mirrored with probability 1/2.
// Draws from libtorch's CPU generator, whose state is part of every checkpoint.
torch::Tensor Augment(const torch::Tensor& images, std::int64_t shift);

}  // namespace examples
