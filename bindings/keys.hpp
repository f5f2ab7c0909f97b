// bind_keys: what names and proves copies, for Python. The GIL is held while it binds.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock::python {

void bind_keys(nanobind::module_& m);

}  // namespace penstock::python
