// In place of cuda_engine.cc where BELAY_WITH_CUDA is off.
#include "runtime/cuda/copy_engine.h"

namespace belay::runtime {

base::Result<std::unique_ptr<CopyEngine>> MakeCudaCopyEngine(int /*device*/) {
  return base::Fail(base::Code::kUnsupported,
                    "this build of belay cannot save tensors on a GPU: configure with BELAY_WITH_CUDA");
}

}  // namespace belay::runtime
