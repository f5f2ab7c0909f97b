#include "io/cufile_errors.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace penstock {
namespace {

struct Meaning {
  int code;
  const char* text;
};

// In the order of the numbers.
constexpr auto kMeanings = std::to_array<Meaning>({
    {5001, "the driver is not initialised: no nvidia-fs, no P2PDMA, and compatibility mode is off"},
    {5002, "a property of the driver is invalid"},
    {5003, "a limit of the driver is not supported"},
    {5004, "nvidia-fs and libcufile are of versions that do not fit together"},
    {5005, "the version of nvidia-fs cannot be read"},
    {5006, "the driver is closing"},
    {5007, "this platform is not supported"},
    {5008, "this file or its file system does not support it"},
    {5009, "this GPU is not supported"},
    {5010, "nvidia-fs reported an error"},
    {5011, "the CUDA driver reported an error"},
    {5012, "not a pointer that CUDA knows"},
    {5013, "memory of a kind that it cannot use"},
    {5014, "a range beyond the memory's allocation"},
    {5015, "memory of another CUDA context"},
    {5016, "more GPU memory to pin than max_device_pinned_mem_size_kb allows"},
    {5017, "a range that cannot be mapped"},
    {5018, "not a file of a kind that it can use"},
    {5019, "the file was opened with flags that it cannot use"},
    {5020, "the file was not opened with O_DIRECT"},
    {5022, "an argument is invalid"},
    {5023, "this memory is registered already"},
    {5024, "this memory is not registered"},
    {5025, "permission denied"},
    {5026, "the driver is open already"},
    {5027,
     "the file cannot be registered; often because /run/udev does not hold the record of its "
     "block device (in a container: -v /run/udev:/run/udev:ro)"},
    {5028, "this file is registered already"},
    {5029, "no such GPU"},
    {5030, "an internal error; typical of overlayfs (use a directory of a real file system)"},
    {5031, "it cannot open the file once more"},
    {5033, "nvidia-fs cannot be set up"},
    {5034, "a deny list of its configuration rules this out"},
    {5036, "the GPU memory cannot be pinned; often for lack of BAR1 space"},
    {5043, "out of memory"},
    {5044, "an I/O error"},
    {5045, "its own buffers cannot be registered"},
    {5046, "an internal table failed"},
    {5047, "no valid CUDA context in this thread"},
    {5048, "nvidia-fs reported an internal error"},
});

}  // namespace

std::string describe_cufile_code(int code) {
  if (code < cufile::kCodeBase) return std::system_category().message(code);
  const auto found = std::ranges::find(kMeanings, code, &Meaning::code);
  const char* text = found == kMeanings.end() ? "an error of an unknown number" : found->text;
  return std::to_string(code) + ": " + text;
}

std::string describe_cufile(cufile::Outcome outcome) {
  std::string text = describe_cufile_code(outcome.code);
  if (outcome.cuda == 0) return text;
  text += " (CUDA error " + std::to_string(outcome.cuda);
  constexpr int kCudaNotSupported = 801;
  if (outcome.code == cufile::kCudaDriverError && outcome.cuda == kCudaNotSupported)
    text += ": the NVIDIA module is loaded without RMForceStaticBar1=1, which P2PDMA needs";
  return text + ")";
}

int cufile_code(ssize_t answer, int error_number) noexcept {
  if (answer < -1 && answer > -100'000) return static_cast<int>(-answer);
  return error_number != 0 ? error_number : EIO;
}

int errno_of_cufile(int code) noexcept {
  if (code < cufile::kCodeBase) return code;
  switch (code) {
    case 5022:
      return EINVAL;
    case 5025:
      return EACCES;
    case 5043:
      return ENOMEM;
    case cufile::kIoNotSupported:
      return EOPNOTSUPP;
    default:
      return EIO;
  }
}

}  // namespace penstock
