// cuFile's errors as sentences. Its calls answer in two number spaces: errno, and codes from 5000
// on, which also arrive in errno. Pure; any thread.
#pragma once

#include <string>

#include "io/cufile_abi.hpp"

namespace penstock {

// "5001: the nvidia-fs driver is not loaded and ...", or what strerror says below 5000.
std::string describe_cufile_code(int code);
// The same with the CUDA driver's own error, where that is the cause.
std::string describe_cufile(cufile::Outcome outcome);
// The code (errno's or 50xx) behind a negative answer of cuFileRead or cuFileWrite; `error_number`
// is errno right after the call. Never 0.
int cufile_code(ssize_t answer, int error_number) noexcept;
// The errno that stands for `code` where only an errno fits.
int errno_of_cufile(int code) noexcept;

}  // namespace penstock
