// put_on_gpu: a TierRig over fake_cudart.hpp's GPUs.
#pragma once

#include <string>

#include "support/fake_cudart.hpp"
#include "support/tier_rig.hpp"

namespace penstock::test {

// Before open(). Without cuFile, which has fakes of its own.
inline void put_on_gpu(TierRig& rig, int gpu) {
  rig.device = "cuda:" + std::to_string(gpu);
  rig.adopt = [gpu](std::span<std::byte> pages) { return adopt_as_gpu_memory(pages, gpu); };
  rig.config.gds_config.enable_gds = "false";
}

}  // namespace penstock::test
