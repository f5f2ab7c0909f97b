// CopyTable: the rows of `copy`, which form one tree for each (namespace, group, shard).
//
// A copy hangs under the copy of its parent key; `children` counts the copies below it. Methods
// that change the tree run inside a write transaction of the index; index thread only. Rows come
// from disk: what they say about blocks is checked against the pools before anybody sees it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/head_rows.hpp"
#include "store/policy.hpp"
#include "store/statement.hpp"
#include "store/types.hpp"

namespace penstock {

// A whole row, for removal and for reports.
struct CopyRow {
  int64_t id = 0;
  NamespaceId name_space = 0;  // < 0: buried
  CopyName name;
  int64_t parent = 0;
  int64_t children = 0;
  Stamp stamp = 0;
  bool is_valid = false;  // `record` could be read and fits the pools
  CopyRecord record;
};

std::vector<std::byte> encode_extents(std::span<const Extent> extents);
// Reads blobs of a row into `record` (its sizes are set already); false if they contradict the
// sizes, the block size or the pools.
bool decode_blocks(std::span<const std::byte> extents, std::span<const std::byte> checksums,
                   uint64_t block_size, std::span<const PoolRow> pools, CopyRecord& record);

class CopyTable {
 public:
  CopyTable(Database& db, const HeadRows& head);

  int64_t id_of(NamespaceId name_space, const CopyName& name) noexcept;  // 0: none
  // NotFound: none; Corrupt: its row makes no sense.
  CopyRecord find(NamespaceId name_space, const CopyName& name);
  std::optional<CopyRow> row(int64_t id);
  std::vector<CopyRow> rows_after(int64_t id, uint32_t limit);  // ascending ids
  int64_t last_id() noexcept;                                   // 0: the table is empty

  bool insert(NamespaceId name_space, const CopyInsert& copy, int64_t parent, Stamp stamp);
  void remove(const CopyRow& leaf);  // hands its stamp to its parent
  void stamp(int64_t id, Stamp now);
  void settle(int64_t id, Stamp now);
  // Of the leaves whose stamps are beyond `latest`, the oldest `limit` get `now`.
  void lower_stamps(Stamp latest, Stamp now, uint32_t limit);
  void bury(int64_t id);

  int64_t oldest_leaf() noexcept;            // 0: the table is empty
  int64_t first_child(int64_t id) noexcept;  // 0: none
  int64_t first_buried() noexcept;           // 0: none

 private:
  template <typename Change>
  void restamp(int64_t id, Change&& change);

  Database& db_;
  const HeadRows& head_;
  Statement id_of_, find_, row_, rows_after_, last_id_, insert_, delete_, add_child_, tree_,
      set_tree_, set_stamp_, lower_stamps_, bury_, oldest_leaf_, first_child_, first_buried_;
};

}  // namespace penstock
