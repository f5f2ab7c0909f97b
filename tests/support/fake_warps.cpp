// The GPU's kernel, from its own source, on a CPU: the lanes of a warp are contexts that take turns
// on one thread. Each runs up to its next exchange with the others; an exchange that not all lanes
// come to, or not to the same one, would be undefined on a GPU and is an assert here.
#include <ucontext.h>
#include <vector_functions.h>

#include <array>
#include <cstdint>
#include <vector>

#include "base/assert.hpp"
#include "support/fake_kernels.hpp"

namespace penstock::cuda {
namespace {

constexpr unsigned kLanes = 32;
constexpr size_t kStack = 256 << 10;

enum class Exchange : uint8_t { None, Shuffle, Ballot, Sync, Over };

class Warp {
 public:
  static Warp*& current() {
    thread_local Warp* warp = nullptr;
    return warp;
  }

  unsigned lane() const { return lane_; }

  // Runs `kernel` once in each lane.
  void run(void (*kernel)(Batch), const Batch& batch) {
    kernel_ = kernel;
    batch_ = &batch;
    current() = this;
    turn_ = {};
    for (unsigned l = 0; l < kLanes; ++l) begin(contexts_[l], stacks_.data() + l * kStack);
    Exchange met = Exchange::None;
    while (met != Exchange::Over) {
      for (lane_ = 0; lane_ < kLanes; ++lane_) {
        PENSTOCK_ASSERT(swapcontext(&main_, &contexts_[lane_]) == 0);
        if (lane_ == 0) met = at_[0];
        PENSTOCK_ASSERT(at_[lane_] == met);
      }
    }
    current() = nullptr;
  }

  // What every lane has given, once all have.
  const std::array<uint64_t, kLanes>& exchange(Exchange kind, uint64_t value) {
    const unsigned mine = lane_, turn = turn_[mine];
    turn_[mine] ^= 1;
    values_[turn][mine] = value;
    at_[mine] = kind;
    PENSTOCK_ASSERT(swapcontext(&contexts_[mine], &main_) == 0);
    return values_[turn];
  }

 private:
  void begin(ucontext_t& context, std::byte* stack) {
    PENSTOCK_ASSERT(getcontext(&context) == 0);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStack;
    context.uc_link = &main_;
    makecontext(&context, enter, 0);
  }

  static void enter() {
    Warp& warp = *current();
    warp.kernel_(*warp.batch_);
    warp.at_[warp.lane_] = Exchange::Over;
  }

  void (*kernel_)(Batch) = nullptr;
  const Batch* batch_ = nullptr;
  ucontext_t main_{};
  std::array<ucontext_t, kLanes> contexts_{};
  std::vector<std::byte> stacks_ = std::vector<std::byte>(kLanes * kStack);
  unsigned lane_ = 0;
  std::array<Exchange, kLanes> at_{};
  std::array<unsigned, kLanes> turn_{};
  std::array<std::array<uint64_t, kLanes>, 2> values_{};  // a lane may be one exchange ahead
};

// What a kernel finds in every CUDA program.

struct Index {
  unsigned x = 0;
};
thread_local Index blockIdx;

struct ThreadIndex {
  struct X {
    operator unsigned() const { return first_of_warp() + Warp::current()->lane(); }
  } x;
  static unsigned& first_of_warp() {
    thread_local unsigned first = 0;
    return first;
  }
} threadIdx;

uint64_t __shfl_xor_sync(unsigned mask, uint64_t value, unsigned other) {
  PENSTOCK_ASSERT(mask == 0xffffffffu);
  Warp& warp = *Warp::current();
  const unsigned from = warp.lane() ^ other;
  return warp.exchange(Exchange::Shuffle, value)[from];
}

unsigned __ballot_sync(unsigned mask, bool vote) {
  PENSTOCK_ASSERT(mask == 0xffffffffu);
  const auto& votes = Warp::current()->exchange(Exchange::Ballot, vote ? 1 : 0);
  unsigned all = 0;
  for (unsigned l = 0; l < kLanes; ++l) all |= static_cast<unsigned>(votes[l]) << l;
  return all;
}

void __syncwarp() {
  (void)Warp::current()->exchange(Exchange::Sync, 0);
}

unsigned __popc(unsigned bits) {
  return static_cast<unsigned>(__builtin_popcount(bits));
}

uint64_t __umul64hi(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

template <typename T>
T __ldcs(const T* from) {
  PENSTOCK_ASSERT(reinterpret_cast<uintptr_t>(from) % sizeof(T) == 0);
  return *from;
}

template <typename T>
void __stcs(T* to, const T& value) {
  PENSTOCK_ASSERT(reinterpret_cast<uintptr_t>(to) % sizeof(T) == 0);
  *to = value;
}

}  // namespace
}  // namespace penstock::cuda

#undef __device__
#undef __global__
#undef __launch_bounds__
#define __device__
#define __global__
#define __launch_bounds__(threads)
#include "device/cuda/move_leaves.cuh"

namespace penstock::cuda {

void run_kernel(const Launch& launch) {
  thread_local Warp warp;
  void (*kernel)(Batch) = launch.aligned ? move_leaves<false, true> : move_leaves<false, false>;
  if (launch.gathers) kernel = launch.aligned ? move_leaves<true, true> : move_leaves<true, false>;
  for (blockIdx.x = 0; blockIdx.x < blocks_of(launch.batch); ++blockIdx.x) {
    for (unsigned w = 0; w < kWarpsPerBlock; ++w) {
      ThreadIndex::first_of_warp() = w * kWarp;
      warp.run(kernel, launch.batch);
    }
  }
}

}  // namespace penstock::cuda
