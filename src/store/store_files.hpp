// Names of the files in a store's first directory, and the setting aside of a damaged index.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/status.hpp"

namespace penstock {

struct StoreFiles {
  explicit StoreFiles(const std::string& directory);

  std::string index;        // SQLite's; nothing but SQLite may open it, or its locks are lost
  std::string wal;          // SQLite's
  std::string shared;       // SQLite's
  std::string lock;         // of LockFile
  std::string set_aside;    // the last damaged index, for whoever wants to look at it
  std::string damage_note;  // there: a running process found the index damaged; says what it saw

  // Leaves the note for the next process that opens the store alone. Best effort.
  void note_damage(const std::string& reason) const noexcept;
  bool has_damage_note() const noexcept;
  // Whether a store's index has lain here: its lock file stays, whatever becomes of the index.
  bool had_index() const noexcept;
  // Renames the index, or removes it if it is larger than `most_bytes`, and removes what belongs to
  // it. Requires: no process uses it.
  Result<void> put_index_aside(uint64_t most_bytes) const;
};

}  // namespace penstock
