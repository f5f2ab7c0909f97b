// The drive's read speed by fio, where it is installed: a second opinion on the raw ceiling.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace penstock::cli {

// Reads `file` from `offset` on: 1 MiB requests, 32 in flight, O_DIRECT. Blocks; nothing is
// written. nullopt: no fio, or it failed.
std::optional<double> fio_read_gbs(const std::string& file, uint64_t offset, uint64_t size);

}  // namespace penstock::cli
