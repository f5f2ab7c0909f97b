#include "device/open.hpp"

#include <fmt/format.h>

#include <charconv>

#include "device/host_device.hpp"
#if defined(PENSTOCK_CUDA)
#include <cuda_runtime_api.h>

#include "device/cuda/cuda_device.hpp"
#endif

namespace penstock {
namespace {

constexpr std::string_view kCuda = "cuda:";

#if !defined(PENSTOCK_CUDA)
Result<std::unique_ptr<Device>> open_cuda_device(int, const std::vector<GroupLayout>&, CopyMaps) {
  return Error{Status::Unsupported, "this build has no CUDA: build it where nvcc is installed"};
}
#endif

}  // namespace

int cuda_version() noexcept {
#if defined(PENSTOCK_CUDA)
  return CUDART_VERSION;
#else
  return 0;
#endif
}

Result<std::unique_ptr<Device>> open_device(const std::string& name,
                                            const std::vector<GroupLayout>& layouts,
                                            CopyMaps maps) {
  if (name == "cpu") return std::unique_ptr<Device>{new HostDevice{std::move(maps)}};
  if (name == HostDevice::kStandIn)
    return std::unique_ptr<Device>{new HostDevice{std::move(maps), true}};
  int ordinal = -1;
  if (name.starts_with(kCuda)) {
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kCuda.size(), end, ordinal);
    if (parsed.ec != std::errc{} || parsed.ptr != end) ordinal = -1;
  }
  if (ordinal < 0)
    return Error{Status::Invalid, fmt::format("device {:?}: use cpu, or cuda:N", name)};
  return open_cuda_device(ordinal, layouts, std::move(maps));
}

}  // namespace penstock
