// The tests' side of the fake libraries: puts them and the helper in the place of the real ones,
// and asks the fake libcufile of this process what it was called with. One thread.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace penstock::test {

class FakeCufile {
 public:
  // `mode`: see fake_cufile.cpp. In force at the next opening of the driver, also in helpers.
  explicit FakeCufile(const std::string& mode = "") {
    ::setenv("PENSTOCK_CUFILE_LIBRARY", PENSTOCK_FAKE_CUFILE, 1);
    ::setenv("PENSTOCK_CUDA_DRIVER_LIBRARY", PENSTOCK_FAKE_CUDA, 1);
    ::setenv("PENSTOCK_PROBE", PENSTOCK_PROBE_PROGRAM, 1);
    ::unsetenv("FAKE_CUDA");
    use(mode);
    library_ = ::dlopen(PENSTOCK_FAKE_CUFILE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    EXPECT_NE(library_, nullptr) << ::dlerror();
    function<void()>("fake_cufile_reset")();
  }
  ~FakeCufile() {
    for (const char* name : {"PENSTOCK_CUFILE_LIBRARY", "PENSTOCK_CUDA_DRIVER_LIBRARY",
                             "PENSTOCK_PROBE", "FAKE_CUFILE", "FAKE_CUDA"})
      ::unsetenv(name);
  }
  FakeCufile(const FakeCufile&) = delete;
  FakeCufile& operator=(const FakeCufile&) = delete;

  void use(const std::string& mode) const { ::setenv("FAKE_CUFILE", mode.c_str(), 1); }
  void use_cuda(const std::string& mode) const { ::setenv("FAKE_CUDA", mode.c_str(), 1); }
  long count(const char* name) const {
    return function<long(const char*)>("fake_cufile_count")(name);
  }
  void release() const { function<void()>("fake_cufile_release")(); }
  void wait_for_hang() const { function<void()>("fake_cufile_wait_for_hang")(); }

 private:
  template <typename Function>
  Function* function(const char* name) const {
    return reinterpret_cast<Function*>(::dlsym(library_, name));
  }
  void* library_ = nullptr;
};

}  // namespace penstock::test
