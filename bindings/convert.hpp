// Conversions between Python objects and the core's values. The GIL is held in all of them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "config/load.hpp"
#include "penstock/engine.hpp"

namespace penstock::python {

// An Error on its way to Python, where it becomes penstock.PenstockError(message) with .status.
struct Failure {
  Error error;
};

template <typename T>
T value_or_throw(Result<T> result) {
  if (!result) throw Failure{result.take_error()};
  return std::move(*result);
}

// 32 bytes each; ValueError if the length is no multiple of 32.
std::vector<Key> keys_from_bytes(const nanobind::bytes& bytes);
Digest digest_from_bytes(const nanobind::bytes& bytes);

// (rows_per_chunk, [(base, rows, row_stride, page_bytes, layer, element_bytes), ...]) for each
// group.
using RegionTuple = std::tuple<uint64_t, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>;
using LayoutTuple = std::tuple<uint32_t, std::vector<RegionTuple>>;
std::vector<GroupLayout> layouts_from_tuples(const std::vector<LayoutTuple>& tuples);

// (path, values, is_list) for each entry.
using EntryTuple = std::tuple<std::string, std::vector<std::string>, bool>;
std::vector<ConfigEntry> entries_from_tuples(const std::vector<EntryTuple>& tuples);

}  // namespace penstock::python
