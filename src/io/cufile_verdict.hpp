// CufileVerdict: what the probe found out about cuFile between one directory and one GPU.
//
// It crosses from the helper process as lines of "word value"; read_report() builds it from
// whatever of them arrived before the helper ended, died or was killed. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

// How bytes went. Unknown: no counters, or they counted nothing.
enum class CufilePath : uint8_t { Unknown, Posix, P2p, Nvfs };
std::string_view to_string(CufilePath path) noexcept;

struct CufileCounts {
  uint64_t p2p = 0, nvfs = 0, posix = 0;
  // Straight from the drive only if nothing took the detour.
  CufilePath path() const noexcept;
  std::string text() const;  // "4 by P2PDMA, 0 by nvidia-fs, 0 by POSIX"
};

struct CufileVerdict {
  bool usable = false;  // bytes went through cuFile both ways and were the right ones
  CufileCounts reads, writes;
  int version = 0;       // of the library, 1190 is 1.19; 0: not known
  std::string library;   // its path; empty if it was not loaded
  std::string gpu;       // "GPU-..."; empty if it was not found
  std::string sentence;  // why proven, or why not

  bool proven() const noexcept;
};

std::string format_version(int version);  // "1.19"

// How the helper ended.
struct HelperEnd {
  bool timed_out = false;
  int limit_s = 0;
  int signal = 0;
};
// Every line is checked; a torn or unknown one is passed over.
CufileVerdict read_report(std::string_view report, const HelperEnd& end);

}  // namespace penstock
