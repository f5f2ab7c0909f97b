// A libcuda.so.1 of our own for the probe helper: one GPU whose memory is the host's. FAKE_CUDA
// holds words: init=100 (cuInit fails so), memory=2 (allocation fails so), hang (cuInit never
// returns).
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr uint8_t kUuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr int kInvalidDevice = 101;

int failure(const std::string& word) {
  const char* const variable = std::getenv("FAKE_CUDA");
  const std::string text = variable == nullptr ? "" : variable;
  const size_t at = text.find(word + "=");
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + word.size() + 1);
}

void* pointer(uint64_t address) {
  return reinterpret_cast<void*>(address);
}

}  // namespace

EXPORTED int cuInit(unsigned) {
  const char* const text = std::getenv("FAKE_CUDA");
  while (text != nullptr && std::string{text} == "hang") ::pause();
  return failure("init");
}
EXPORTED int cuDeviceGetCount(int* count) {
  return *count = 1, 0;
}
EXPORTED int cuDeviceGet(int* device, int ordinal) {
  return *device = ordinal, ordinal == 0 ? 0 : kInvalidDevice;
}
EXPORTED int cuDeviceGetByPCIBusId(int* device, const char* id) {
  return *device = 0, std::string{id} == "0000:3b:00.0" ? 0 : kInvalidDevice;
}
EXPORTED int cuDeviceGetUuid_v2(void* uuid, int) {
  return std::memcpy(uuid, kUuid, sizeof kUuid), 0;
}
EXPORTED int cuDevicePrimaryCtxRetain(void** context, int) {
  static int only;
  return *context = &only, 0;
}
EXPORTED int cuDevicePrimaryCtxRelease_v2(int) {
  return 0;
}
EXPORTED int cuCtxSetCurrent(void*) {
  return 0;
}
EXPORTED int cuMemAlloc_v2(uint64_t* address, size_t size) {
  if (const int error = failure("memory"); error != 0) return error;
  *address = reinterpret_cast<uint64_t>(std::aligned_alloc(65536, size));
  return 0;
}
EXPORTED int cuMemFree_v2(uint64_t address) {
  return std::free(pointer(address)), 0;
}
EXPORTED int cuMemcpyHtoD_v2(uint64_t target, const void* source, size_t size) {
  return std::memcpy(pointer(target), source, size), 0;
}
EXPORTED int cuMemcpyDtoH_v2(void* target, uint64_t source, size_t size) {
  return std::memcpy(target, pointer(source), size), 0;
}
EXPORTED int cuCtxSynchronize() {
  return 0;
}
EXPORTED int cuGetErrorString(int error, const char** text) {
  return *text = error == 100 ? "no CUDA-capable device" : "an error of the fake", 0;
}
