#include "support/fake_cudart.hpp"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr size_t kGpuBytes = size_t{1} << 30;
constexpr const char* kBusIds[] = {"0000:3b:00.0", "0000:5e:00.0"};
constexpr int kGpus = 2;

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current = 0;  // GPU

cudaError_t error(cudaError_t code) {
  return last_error = code;
}

std::byte* bytes(const void* address) {
  return static_cast<std::byte*>(const_cast<void*>(address));
}

// Ranges of memory by their start; none overlaps another.
class Ranges {
 public:
  void add(std::byte* start, size_t size) { ranges_[start] = size; }
  size_t remove(std::byte* start) {
    const auto found = ranges_.find(start);
    if (found == ranges_.end()) return 0;
    const size_t size = found->second;
    ranges_.erase(found);
    return size;
  }
  bool touch(const std::byte* at, size_t size) const {
    const auto after = ranges_.lower_bound(const_cast<std::byte*>(at + size));
    if (after == ranges_.begin()) return false;
    const auto range = std::prev(after);
    return range->first + range->second > at;
  }
  // All of it, in one of them.
  bool hold(const std::byte* at, size_t size) const {
    const auto after = ranges_.upper_bound(const_cast<std::byte*>(at));
    if (after == ranges_.begin()) return false;
    const auto range = std::prev(after);
    return at + size <= range->first + range->second;
  }

  size_t bytes() const {
    size_t all = 0;
    for (const auto& [start, size] : ranges_) all += size;
    return all;
  }

 private:
  std::map<std::byte*, size_t> ranges_;
};

struct Machine {
  std::mutex mutex;
  Ranges gpu[kGpus], pinned;
  size_t gpu_used = 0;
  std::set<cudaStream_t> streams;
  penstock::test::BatchCopies batches;

  bool any_gpu_touches(const std::byte* at, size_t size) const {
    return std::any_of(std::begin(gpu), std::end(gpu),
                       [&](const Ranges& ranges) { return ranges.touch(at, size); });
  }
};

Machine& machine() {
  static Machine only;
  return only;
}

// Whoever has the next ticket copies next.
class CopyEngine {
 public:
  uint64_t ticket() { return next_++; }
  void copy(uint64_t ticket, const std::function<void()>& work) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return serving_ == ticket; });
    work();
    ++serving_;
    changed_.notify_all();
  }

 private:
  std::atomic<uint64_t> next_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t serving_ = 0;
};

CopyEngine& copy_engine(int gpu, bool to_gpu) {
  static CopyEngine engines[kGpus][2];
  return engines[gpu][to_gpu ? 1 : 0];
}

struct Point {  // in a stream's work
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;

  void reach() {
    std::scoped_lock lock{mutex};
    reached = true;
    changed.notify_all();
  }
  void wait() {
    std::unique_lock lock{mutex};
    changed.wait(lock, [this] { return reached; });
  }
  bool is_reached() {
    std::scoped_lock lock{mutex};
    return reached;
  }
};

}  // namespace

struct CUevent_st {
  const int gpu = current;
  std::mutex mutex;
  std::shared_ptr<Point> point;  // null: never recorded

  std::shared_ptr<Point> last() {
    std::scoped_lock lock{mutex};
    return point;
  }
};

struct CUstream_st {
  CUstream_st() : thread{[this] { run(); }} {}
  ~CUstream_st() {
    {
      std::scoped_lock lock{mutex};
      stopping = true;
      changed.notify_all();
    }
    thread.join();
  }
  void add(std::function<void()> work) {
    std::scoped_lock lock{mutex};
    queue.push_back(std::move(work));
    changed.notify_all();
  }
  bool is_idle() {
    std::scoped_lock lock{mutex};
    return queue.empty();
  }
  void synchronize() {
    std::unique_lock lock{mutex};
    changed.wait(lock, [this] { return queue.empty(); });
  }
  void run() {
    std::unique_lock lock{mutex};
    while (true) {
      changed.wait(lock, [this] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const std::function<void()>& work = queue.front();
      lock.unlock();
      work();
      lock.lock();
      queue.pop_front();  // only now: until then the stream is not idle
      changed.notify_all();
    }
  }

  const int gpu = current;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> queue;
  bool stopping = false;
  std::thread thread;
};

namespace {

// Of the host's side as CUDA sees it: in one pinned piece, or not pinned at all.
bool host_side_is_valid(const std::byte* at, size_t size) {
  Machine& all = machine();
  return !all.any_gpu_touches(at, size) &&
         (!all.pinned.touch(at, size) || all.pinned.hold(at, size));
}

bool copy_is_valid(const std::byte* to, const std::byte* from, size_t size, cudaMemcpyKind kind,
                   int of_gpu) {
  const std::byte* const gpu = kind == cudaMemcpyHostToDevice ? to : from;
  const std::byte* const host = kind == cudaMemcpyHostToDevice ? from : to;
  std::scoped_lock lock{machine().mutex};
  return machine().gpu[of_gpu].hold(gpu, size) && host_side_is_valid(host, size);
}

CUresult stream_wait_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned) {
  stream->add([address, value] {
    std::atomic_ref word{*reinterpret_cast<uint32_t*>(address)};
    while (static_cast<int32_t>(word.load(std::memory_order_acquire) - value) < 0)
      std::this_thread::yield();
  });
  return CUDA_SUCCESS;
}

}  // namespace

namespace penstock::test {

std::shared_ptr<void> adopt_as_gpu_memory(std::span<std::byte> memory, int gpu) {
  std::scoped_lock lock{machine().mutex};
  machine().gpu[gpu].add(memory.data(), memory.size());
  return {nullptr, [start = memory.data(), gpu](void*) {
            std::scoped_lock locked{machine().mutex};
            machine().gpu[gpu].remove(start);
          }};
}

bool may_launch_on(cudaStream_t stream) {
  return stream->gpu == current;
}

BatchCopies batch_copies() {
  std::scoped_lock lock{machine().mutex};
  return machine().batches;
}

size_t pinned_bytes() {
  std::scoped_lock lock{machine().mutex};
  return machine().pinned.bytes();
}

}  // namespace penstock::test

// The runtime's functions, as far as the device and its tests call them.
extern "C" {

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}
const char* cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidValue:
      return "invalid argument";
    default:
      return "another error";
  }
}

cudaError_t cudaGetDeviceCount(int* count) {
  return *count = kGpus, cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  return *version = CUDART_VERSION, cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  return *device = current, cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kGpus) return error(cudaErrorInvalidDevice);
  return current = device, cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
  return std::strncpy(id, kBusIds[device], static_cast<size_t>(size)), cudaSuccess;
}
cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* id) {
  for (*device = 0; *device < kGpus; ++*device)
    if (std::strcmp(id, kBusIds[*device]) == 0) return cudaSuccess;
  return error(cudaErrorInvalidDevice);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* lowest, int* highest) {
  *lowest = 0;
  *highest = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  std::set<cudaStream_t> streams;
  {
    std::scoped_lock lock{machine().mutex};
    streams = machine().streams;
  }
  for (const cudaStream_t stream : streams) stream->synchronize();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t size) {
  std::scoped_lock lock{machine().mutex};
  if (size > kGpuBytes - machine().gpu_used) return error(cudaErrorMemoryAllocation);
  const size_t alignment = size < (1 << 20) ? 512 : 1 << 21;
  *memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (*memory == nullptr) return error(cudaErrorMemoryAllocation);
  machine().gpu_used += size;
  machine().gpu[current].add(bytes(*memory), size);
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  {
    std::scoped_lock lock{machine().mutex};
    for (Ranges& gpu : machine().gpu) machine().gpu_used -= gpu.remove(bytes(memory));
  }
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::scoped_lock lock{machine().mutex};
  *total = kGpuBytes;
  *free = kGpuBytes - machine().gpu_used;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t size) {
  *memory = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (*memory == nullptr) return error(cudaErrorMemoryAllocation);
  return cudaHostRegister(*memory, size, 0);
}
cudaError_t cudaFreeHost(void* memory) {
  (void)cudaHostUnregister(memory);
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* memory, size_t size, unsigned) {
  std::scoped_lock lock{machine().mutex};
  if (machine().pinned.touch(bytes(memory), size))
    return error(cudaErrorHostMemoryAlreadyRegistered);
  machine().pinned.add(bytes(memory), size);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) {
  std::scoped_lock lock{machine().mutex};
  return machine().pinned.remove(bytes(memory)) > 0 ? cudaSuccess
                                                    : error(cudaErrorHostMemoryNotRegistered);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  std::scoped_lock lock{machine().mutex};
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  for (int gpu = 0; gpu < kGpus; ++gpu) {
    if (!machine().gpu[gpu].hold(bytes(address), 1)) continue;
    attributes->type = cudaMemoryTypeDevice;
    attributes->device = gpu;
  }
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  std::scoped_lock lock{machine().mutex};
  machine().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    std::scoped_lock lock{machine().mutex};
    machine().streams.erase(stream);
  }
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream->is_idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream->synchronize(), cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const auto point = event->last()) stream->add([point] { point->wait(); });
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return stream->add([=] { function(data); }), cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event->gpu != stream->gpu) return error(cudaErrorInvalidResourceHandle);
  const auto point = std::make_shared<Point>();
  stream->add([point] { point->reach(); });
  std::scoped_lock lock{event->mutex};
  event->point = point;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const auto point = event->last();
  return point == nullptr || point->is_reached() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const auto point = event->last()) point->wait();
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  return std::memcpy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, size_t size) {
  return std::memset(memory, value, size), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t size, cudaStream_t stream) {
  return stream->add([=] { std::memset(memory, value, size); }), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (!copy_is_valid(bytes(to), bytes(from), size, kind, stream->gpu))
    return error(cudaErrorInvalidValue);
  CopyEngine& engine = copy_engine(stream->gpu, kind == cudaMemcpyHostToDevice);
  const uint64_t ticket = engine.ticket();
  stream->add([=, &engine] { engine.copy(ticket, [&] { std::memcpy(to, from, size); }); });
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
// Takes pinned memory alone, and begins with the last copy, since none may count on the order.
cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from, const size_t* sizes,
                                 size_t count, cudaMemcpyAttributes* attributes, size_t* first,
                                 size_t attribute_count, cudaStream_t stream) {
  const bool in_order = attribute_count == 1 && *first == 0 &&
                        attributes->srcAccessOrder == cudaMemcpySrcAccessOrderStream;
  if (!in_order || count == 0) return error(cudaErrorInvalidValue);
  struct Copy {
    std::byte* to;
    const std::byte* from;
    size_t size;
  };
  std::vector<Copy> copies;
  std::scoped_lock lock{machine().mutex};
  const Ranges& of_gpu = machine().gpu[stream->gpu];
  const bool to_gpu = of_gpu.hold(bytes(to[0]), 1);
  for (size_t i = 0; i < count; ++i) {
    const Copy copy{bytes(to[i]), bytes(from[i]), sizes[i]};
    const std::byte* const gpu = to_gpu ? copy.to : copy.from;
    const std::byte* const host = to_gpu ? copy.from : copy.to;
    if (!of_gpu.hold(gpu, copy.size) || !machine().pinned.hold(host, copy.size))
      return error(cudaErrorInvalidValue);
    copies.push_back(copy);
  }
  ++machine().batches.calls;
  machine().batches.copies += count;
  CopyEngine& engine = copy_engine(stream->gpu, to_gpu);
  const uint64_t ticket = engine.ticket();
  stream->add([ticket, copies = std::move(copies), &engine] {
    engine.copy(ticket, [&] {
      for (auto copy = copies.rbegin(); copy != copies.rend(); ++copy)
        std::memcpy(copy->to, copy->from, copy->size);
    });
  });
  return cudaSuccess;
}
#endif

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuStreamWaitValue32") == 0;
  *function = known ? reinterpret_cast<void*>(stream_wait_value) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // extern "C"
