#include "io/probe/cuda_driver.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cctype>
#include <cstdlib>
#include <utility>

namespace penstock::probe {

// Answers are CUresult: 0 is success. Devices are int, addresses 64-bit, contexts opaque.
struct CudaFunctions {
  int (*init)(unsigned flags) = nullptr;
  int (*count)(int* count) = nullptr;
  int (*get)(int* device, int ordinal) = nullptr;
  int (*by_bus_id)(int* device, const char* id) = nullptr;
  int (*uuid)(void* uuid, int device) = nullptr;
  int (*retain)(void** context, int device) = nullptr;
  int (*release)(int device) = nullptr;
  int (*set_current)(void* context) = nullptr;
  int (*allocate)(uint64_t* address, size_t size) = nullptr;
  int (*free)(uint64_t address) = nullptr;
  int (*copy_in)(uint64_t target, const void* source, size_t size) = nullptr;
  int (*copy_out)(void* target, uint64_t source, size_t size) = nullptr;
  int (*synchronize)() = nullptr;
  int (*error_text)(int error, const char** text) = nullptr;

  Error failed(const char* call, int error) const {
    const char* text = nullptr;
    if (error_text(error, &text) != 0 || text == nullptr) text = "unknown";
    return {Status::Unsupported, fmt::format("{} failed: {} ({})", call, text, error)};
  }
};

namespace {

Result<std::shared_ptr<const CudaFunctions>> load() {
  const char* const named = std::getenv(kCudaLibraryVariable);
  void* const library = ::dlopen(named != nullptr && *named != '\0' ? named : "libcuda.so.1",
                                 RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
  if (library == nullptr)
    return Error{Status::Unsupported, fmt::format("no CUDA driver: {}", ::dlerror())};
  auto cuda = std::make_shared<CudaFunctions>();
  std::string missing;
  const auto find = [&](const char* name, auto& function) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find("cuInit", cuda->init);
  find("cuDeviceGetCount", cuda->count);
  find("cuDeviceGet", cuda->get);
  find("cuDeviceGetByPCIBusId", cuda->by_bus_id);
  find("cuDeviceGetUuid_v2", cuda->uuid);
  find("cuDevicePrimaryCtxRetain", cuda->retain);
  find("cuDevicePrimaryCtxRelease_v2", cuda->release);
  find("cuCtxSetCurrent", cuda->set_current);
  find("cuMemAlloc_v2", cuda->allocate);
  find("cuMemFree_v2", cuda->free);
  find("cuMemcpyHtoD_v2", cuda->copy_in);
  find("cuMemcpyDtoH_v2", cuda->copy_out);
  find("cuCtxSynchronize", cuda->synchronize);
  find("cuGetErrorString", cuda->error_text);
  if (!missing.empty())
    return Error{Status::Unsupported, fmt::format("the CUDA driver has no {}", missing)};
  return std::shared_ptr<const CudaFunctions>{std::move(cuda)};
}

bool is_number(const std::string& name) {
  if (name.empty() || name.size() > 4) return false;
  for (const unsigned char c : name)
    if (std::isdigit(c) == 0) return false;
  return true;
}

Result<int> find_device(const CudaFunctions& cuda, const std::string& name) {
  int device = 0;
  if (is_number(name)) {
    const int error = cuda.get(&device, std::atoi(name.c_str()));
    return error == 0 ? Result<int>{device} : cuda.failed("cuDeviceGet", error);
  }
  if (!name.starts_with("GPU-")) {
    const int error = cuda.by_bus_id(&device, name.c_str());
    return error == 0 ? Result<int>{device} : cuda.failed("cuDeviceGetByPCIBusId", error);
  }
  int count = 0;
  if (const int error = cuda.count(&count); error != 0)
    return cuda.failed("cuDeviceGetCount", error);
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    GpuUuid uuid{};
    if (cuda.get(&device, ordinal) == 0 && cuda.uuid(uuid.data(), device) == 0 &&
        format_uuid(uuid) == name)
      return device;
  }
  return Error{Status::Unsupported, fmt::format("there is no {} among {} GPUs", name, count)};
}

}  // namespace

std::string format_uuid(const GpuUuid& uuid) {
  std::string text = "GPU";
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

Result<CudaGpu> CudaGpu::open(const std::string& name) {
  auto cuda = load();
  if (!cuda) return cuda.take_error();
  const CudaFunctions& functions = **cuda;
  if (const int error = functions.init(0); error != 0) return functions.failed("cuInit", error);
  const auto device = find_device(functions, name);
  if (!device) return device.error();
  CudaGpu gpu;
  if (const int error = functions.uuid(gpu.uuid_.data(), *device); error != 0)
    return functions.failed("cuDeviceGetUuid", error);
  void* context = nullptr;
  if (const int error = functions.retain(&context, *device); error != 0)
    return functions.failed("cuDevicePrimaryCtxRetain", error);
  gpu.device_ = *device;
  gpu.cuda_ = *cuda;  // from here on the context is released
  if (const int error = functions.set_current(context); error != 0)
    return functions.failed("cuCtxSetCurrent", error);
  return gpu;
}

CudaGpu::CudaGpu(CudaGpu&& other) noexcept
    : cuda_{std::move(other.cuda_)}, device_{other.device_}, uuid_{other.uuid_} {}

CudaGpu::~CudaGpu() {
  if (cuda_) cuda_->release(device_);
}

Result<CudaGpu::Memory> CudaGpu::allocate(size_t size) const {
  uint64_t address = 0;
  if (const int error = cuda_->allocate(&address, size); error != 0)
    return cuda_->failed("cuMemAlloc", error);
  return Memory{cuda_, address};
}

CudaGpu::Memory::Memory(Memory&& other) noexcept
    : cuda_{std::move(other.cuda_)}, address_{std::exchange(other.address_, 0)} {}

CudaGpu::Memory::~Memory() {
  if (address_ != 0) cuda_->free(address_);
}

Result<void> CudaGpu::Memory::copy_in(uint64_t offset, const void* source, size_t size) const {
  int error = cuda_->copy_in(address_ + offset, source, size);
  if (error == 0) error = cuda_->synchronize();  // a small copy may still be on its way
  if (error != 0) return cuda_->failed("cuMemcpyHtoD", error);
  return {};
}

Result<void> CudaGpu::Memory::copy_out(void* target, uint64_t offset, size_t size) const {
  if (const int error = cuda_->copy_out(target, address_ + offset, size); error != 0)
    return cuda_->failed("cuMemcpyDtoH", error);
  return {};
}

}  // namespace penstock::probe
