// RowFence: keeps a save from reading pages that are about to be overwritten.
//
// A save's rows are watched from submit until its last page has been read. release() is called by
// the engine's thread before a row is written again: chunks that still need the row are marked
// fenced (the mover drops them), and a copy in progress is waited for. The mover reads pages, or
// has a device start to read them, only inside hold().
#pragma once

#include <mutex>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "mover/job.hpp"

namespace penstock {

class RowFence {
 public:
  // Any thread, before the job is posted.
  void watch(Job& job) {
    std::scoped_lock lock{mutex_};
    for (ChunkWork& chunk : job.chunks) {
      chunk.watched = true;
      auto& group = groups_[chunk.name.group];
      group.chunks.insert(&chunk);
      for (int32_t row : chunk.rows)
        if (row != kNoRow) ++group.readers[row];
    }
  }
  // The engine's thread.
  void release(uint32_t group_index, std::span<const int32_t> rows) {
    std::scoped_lock lock{mutex_};
    const auto found = groups_.find(group_index);
    if (found == groups_.end() || found->second.chunks.empty()) return;
    Group& group = found->second;
    std::unordered_set<int32_t> hot;
    for (int32_t row : rows)
      if (group.readers.contains(row)) hot.insert(row);
    if (hot.empty()) return;
    std::vector<ChunkWork*> hit;
    for (ChunkWork* chunk : group.chunks) {
      for (int32_t row : chunk->rows) {
        if (!hot.contains(row)) continue;
        hit.push_back(chunk);
        break;
      }
    }
    for (ChunkWork* chunk : hit) {
      chunk->fenced = true;
      forget_locked(*chunk);
    }
  }
  // The mover: runs `read` while no row is released. It reads pages of chunks that are not fenced.
  template <typename Read>
  void hold(Read&& read) {
    std::scoped_lock lock{mutex_};
    read();
  }
  // Inside hold(): no page of the chunk is read after this.
  void forget_held(ChunkWork& chunk) { forget_locked(chunk); }
  // The mover: the chunk is done, whatever came of it.
  void forget(ChunkWork& chunk) {
    std::scoped_lock lock{mutex_};
    forget_locked(chunk);
  }

 private:
  struct Group {
    std::unordered_set<ChunkWork*> chunks;
    std::unordered_map<int32_t, uint32_t> readers;  // row -> chunks that still read it
  };

  void forget_locked(ChunkWork& chunk) {
    if (!chunk.watched) return;
    chunk.watched = false;
    Group& group = groups_[chunk.name.group];
    group.chunks.erase(&chunk);
    for (int32_t row : chunk.rows) {
      if (row == kNoRow) continue;
      const auto reader = group.readers.find(row);
      if (--reader->second == 0) group.readers.erase(reader);
    }
  }

  std::mutex mutex_;
  std::unordered_map<uint32_t, Group> groups_;
};

}  // namespace penstock
