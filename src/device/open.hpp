// Opens the device that a layout's memory lies on. Any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/copy_map.hpp"
#include "device/device.hpp"

namespace penstock {

// "cpu", or "cuda:N" for the N-th GPU that CUDA shows to this process. Unsupported: no driver, or
// built without CUDA; Invalid: another name, or a region that is not memory of that device;
// NoSpace: the GPU has no room for the staging memory. For tests there is a GPU that is the host,
// HostDevice::kStandIn.
Result<std::unique_ptr<Device>> open_device(const std::string& name,
                                            const std::vector<GroupLayout>& layouts, CopyMaps maps);

// CUDA that this program was built with: 13000 is 13.0; 0: none.
int cuda_version() noexcept;

}  // namespace penstock
