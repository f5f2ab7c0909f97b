// for_each_piece: a job's chunks in pieces for an index, of which the first is small, so that its
// chunks are moved while the index is busy with the rest. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace penstock {

// Calls `fn(piece)` for 8 chunks and for four times as many each time after that.
template <typename Fn>
void for_each_piece(std::span<const size_t> chunks, Fn&& fn) {
  for (size_t size = 8; !chunks.empty(); size *= 4) {
    const auto piece = chunks.first(std::min(size, chunks.size()));
    chunks = chunks.subspan(piece.size());
    fn(std::vector<size_t>{piece.begin(), piece.end()});
  }
}

}  // namespace penstock
