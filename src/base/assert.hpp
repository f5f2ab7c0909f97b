// PENSTOCK_ASSERT: for programmer errors only, always on. Disk bytes, user input and drivers are
// never asserted; they give a Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define PENSTOCK_ASSERT(condition)                                                        \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      std::fprintf(stderr, "penstock: %s:%d: assertion failed: %s\n", __FILE__, __LINE__, \
                   #condition);                                                           \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
