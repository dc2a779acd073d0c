// CopyEngine over the CUDA runtime. The training stream is torch's current one.
#include <mutex>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "runtime/base/check.h"
#include "runtime/cuda/copy_engine.h"
#include "runtime/cuda/pack.h"

namespace belay::runtime {
namespace {

base::Status Checked(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  // The runtime keeps it, and torch would take it for the error of its own next launch: a save that fails for want of
  // memory must not end the training. What really broke the device stays.
  (void)cudaGetLastError();
  return base::Fail(base::Code::kDevice, what, ": ", cudaGetErrorString(error));
}

class CudaCopyEngine final : public CopyEngine {
 public:
  explicit CudaCopyEngine(int device) : device_(device) {}

  ~CudaCopyEngine() override {
    if (side_ == nullptr) return;
    // Errors at the end of the process (driver already gone) concern nobody.
    cudaSetDevice(device_);
    cudaStreamSynchronize(side_);
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    for (cudaEvent_t event : {mark_, wait_begin_, wait_end_}) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (scratch_ != nullptr) cudaFree(scratch_);
    cudaStreamDestroy(side_);
  }

  base::Status Open() {
    BELAY_TRY(Checked(cudaSetDevice(device_), "cudaSetDevice"));
    int least = 0;
    int greatest = 0;
    BELAY_TRY(Checked(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange"));
    BELAY_TRY(
        Checked(cudaStreamCreateWithPriority(&side_, cudaStreamNonBlocking, least), "cudaStreamCreateWithPriority"));
    BELAY_TRY(Checked(cudaEventCreateWithFlags(&mark_, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
    BELAY_TRY(Checked(cudaEventCreate(&wait_begin_), "cudaEventCreate"));
    BELAY_TRY(Checked(cudaEventCreate(&wait_end_), "cudaEventCreate"));
    return Checked(cudaMalloc(&scratch_, kPackBytesMax), "cudaMalloc");
  }

  base::Status RegisterHost(std::span<std::byte> memory) override {
    BELAY_TRY(UseDevice());
    return Checked(cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterDefault), "cudaHostRegister");
  }
  void UnregisterHost(std::span<std::byte> memory) override {
    cudaSetDevice(device_);
    cudaStreamSynchronize(side_);
    cudaHostUnregister(memory.data());
  }

  base::Status MarkTraining() override {
    BELAY_TRY(UseDevice());
    return Checked(cudaEventRecord(mark_, Training()), "cudaEventRecord");
  }
  base::Status SideAwaitsMark() override {
    BELAY_TRY(UseDevice());
    return Checked(cudaStreamWaitEvent(side_, mark_, 0), "cudaStreamWaitEvent");
  }
  base::Status Copy(std::byte* destination, const std::byte* source, std::uint64_t bytes) override {
    // Default: unified addressing tells device memory from the host's (a program may add CPU tensors too).
    return Checked(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDefault, side_), "cudaMemcpyAsync");
  }
  base::Status Pack(std::byte* destination, std::span<const PackItem> items, std::uint64_t bytes) override {
    BELAY_CHECK(items.size() <= kPackItemsMax && bytes <= kPackBytesMax, items.size(), " items of ", bytes, " bytes");
    PackTable table;
    for (const PackItem& item : items) {
      cudaPointerAttributes attributes{};
      BELAY_TRY(Checked(cudaPointerGetAttributes(&attributes, item.source), "cudaPointerGetAttributes"));
      if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) {
        // Host memory, which the kernel cannot read: a copy of its own brings it into the scratch memory, because there
        // the packed bytes must be complete before they leave in one transfer.
        BELAY_TRY(Checked(cudaMemcpyAsync(scratch_ + item.offset, item.source, item.bytes, cudaMemcpyDefault, side_),
                          "cudaMemcpyAsync"));
        continue;
      }
      table.source[table.count] = item.source;
      table.offset[table.count] = item.offset;
      table.bytes[table.count] = item.bytes;
      ++table.count;
    }
    if (table.count > 0) BELAY_TRY(Checked(LaunchPack(table, scratch_, side_), "launching the pack kernel"));
    return Copy(destination, scratch_, bytes);  // the stream's order keeps the scratch memory until it is copied out
  }
  base::Status RecordSide(std::size_t index) override {
    BELAY_ASSIGN(cudaEvent_t event, Event(index));
    return Checked(cudaEventRecord(event, side_), "cudaEventRecord");
  }
  base::Status AwaitOnHost(std::size_t index) override {
    BELAY_TRY(UseDevice());
    BELAY_ASSIGN(cudaEvent_t event, Event(index));
    return Checked(cudaEventSynchronize(event), "copying out of the GPU");
  }
  base::Status TrainingAwaits(std::size_t index) override {
    BELAY_ASSIGN(cudaEvent_t event, Event(index));
    const cudaStream_t training = Training();
    // The stream takes the time when all work before the wait is done, and when the wait is over: what lies between is
    // what the save cost it.
    const cudaError_t timed = cudaEventRecord(wait_begin_, training);
    BELAY_TRY(Checked(cudaStreamWaitEvent(training, event, 0), "cudaStreamWaitEvent"));
    BELAY_TRY(Checked(timed, "cudaEventRecord"));
    return Checked(cudaEventRecord(wait_end_, training), "cudaEventRecord");
  }
  std::optional<double> TrainingWaited() override {
    float milliseconds = 0;
    if (!Checked(cudaEventQuery(wait_end_), "cudaEventQuery") ||
        !Checked(cudaEventElapsedTime(&milliseconds, wait_begin_, wait_end_), "cudaEventElapsedTime")) {
      return std::nullopt;
    }
    return static_cast<double>(milliseconds) / 1e3;
  }

 private:
  base::Status UseDevice() const { return Checked(cudaSetDevice(device_), "cudaSetDevice"); }
  cudaStream_t Training() const {
    return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device_)).stream();
  }
  base::Result<cudaEvent_t> Event(std::size_t index) {
    const std::lock_guard lock(mutex_);
    while (events_.size() <= index) {
      cudaEvent_t event = nullptr;
      // Blocking: a waiting worker sleeps instead of spinning beside the training thread.
      BELAY_TRY(Checked(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
                        "cudaEventCreateWithFlags"));
      events_.push_back(event);
    }
    return events_[index];
  }

  int device_;
  cudaStream_t side_ = nullptr;
  cudaEvent_t mark_ = nullptr;
  cudaEvent_t wait_begin_ = nullptr;  // with time, of the last TrainingAwaits
  cudaEvent_t wait_end_ = nullptr;
  std::byte* scratch_ = nullptr;
  std::mutex mutex_;  // guards events_
  std::vector<cudaEvent_t> events_;
};

}  // namespace

base::Result<std::unique_ptr<CopyEngine>> MakeCudaCopyEngine(int device) {
  auto engine = std::make_unique<CudaCopyEngine>(device);
  BELAY_TRY(engine->Open());
  return std::unique_ptr<CopyEngine>(std::move(engine));
}

}  // namespace belay::runtime
