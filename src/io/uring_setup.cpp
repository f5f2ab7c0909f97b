#include "io/uring_setup.hpp"

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

namespace penstock {
namespace {

// Completions are posted when the driving thread next enters the kernel, without interrupting it.
// IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN would tie the ring to one thread: any other one
// (that of a destructor, say) could not even wait for what is in flight, and the memory would be
// freed under the drive. Measured at 128 KiB and 1 MiB, depth 32: no difference in speed or CPU.
constexpr unsigned kSetupFlags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;

std::string explain(int error) {
  if (error == ENOSYS) {
    return "this kernel has no io_uring, or a seccomp filter hides it";
  }
  if (error == EPERM || error == EACCES) {
    int disabled = 0;
    std::ifstream{"/proc/sys/kernel/io_uring_disabled"} >> disabled;
    if (disabled != 0) {
      return "kernel.io_uring_disabled is " + std::to_string(disabled) +
             "; allow io_uring with `sysctl kernel.io_uring_disabled=0`";
    }
    return "a seccomp filter forbids io_uring_setup (the default of container runtimes; allow it "
           "with a seccomp profile that has io_uring_setup, io_uring_enter, io_uring_register)";
  }
  if (error == ENOMEM) {
    return "no memory for the ring (on kernels before 5.12 the limit is `ulimit -l`)";
  }
  return "io_uring_setup failed: " + std::system_category().message(error);
}

}  // namespace

Result<io_uring> setup_ring(unsigned entries) {
  io_uring ring{};
  io_uring_params params{};
  params.flags = kSetupFlags;
  int result = io_uring_queue_init_params(entries, &ring, &params);
  if (result == -EINVAL) {  // a kernel before 5.19
    params = {};
    result = io_uring_queue_init_params(entries, &ring, &params);
  }
  if (result < 0) {
    return Error{Status::Unsupported, "io_uring is not available: " + explain(-result)};
  }
  if ((params.features & IORING_FEAT_EXT_ARG) == 0) {  // waiting with a time limit
    io_uring_queue_exit(&ring);
    return Error{Status::Unsupported,
                 "io_uring is not available: this kernel's is too old (5.11 is needed)"};
  }
  return ring;
}

}  // namespace penstock
