// What a launch of copy_kernels.hpp does on fake_cudart.cpp's streams: plain loops
// (fake_kernels.cpp), or the kernel's own source on a warp whose lanes take turns (fake_warps.cpp).
#pragma once

#include "device/cuda/copy_kernels.hpp"

namespace penstock::cuda {

struct Launch {
  Batch batch;
  bool aligned, gathers;
};

void run_kernel(const Launch& launch);

size_t launches_for_test();  // so far

}  // namespace penstock::cuda
