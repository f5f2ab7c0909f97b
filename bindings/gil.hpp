// WithoutGil: lets other threads of Python run while the core waits.
//
// For a scope; in place of nanobind's guard. Before Python 3.14 a daemon thread that wants the GIL
// back while the interpreter ends is unwound by force (pthread_exit), which a destructor does not
// let pass: the process would abort. It is parked instead, as 3.14 does, and ends with the process.
#pragma once

#include <Python.h>
#include <cxxabi.h>
#include <unistd.h>

namespace penstock::python {

class WithoutGil {
 public:
  WithoutGil() : state_{PyEval_SaveThread()} {}
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (abi::__forced_unwind&) {
      for (;;) ::pause();
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace penstock::python
