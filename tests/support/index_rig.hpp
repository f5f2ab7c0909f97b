// IndexRig: an index whose pools are numbers, without files. For tests of the index.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/sizes.hpp"
#include "store/index.hpp"
#include "support/files.hpp"
#include "support/rig.hpp"

namespace penstock::test {

class IndexRig {
 public:
  static constexpr uint64_t kBlock = 4096;

  explicit IndexRig(std::vector<uint64_t> pool_blocks) {
    auto opened = LockFile::open(directory / "penstock.lock");
    EXPECT_TRUE(opened);
    lock = std::move(*opened);
    reopen();
    EXPECT_EQ(index->edit_pools([&](std::vector<PoolRow>& rows) {
      for (size_t i = 0; i < pool_blocks.size(); ++i) {
        PoolRow row;
        row.id = static_cast<uint32_t>(i);
        row.directory = "pool " + std::to_string(i);
        rows.push_back(row);
      }
    }),
              Status::Ok);
    for (uint32_t i = 0; i < pool_blocks.size(); ++i)
      EXPECT_EQ(index->extend(i, [&](const PoolRow&) { return pool_blocks[i]; }), Status::Ok);
    auto opened_namespace = index->open_namespace(namespace_spec(), 1);
    EXPECT_TRUE(opened_namespace);
    ns = *opened_namespace;
  }

  void reopen() {
    index.reset();
    IndexOptions options;
    options.path = directory / "penstock.db";
    options.meta.block_size = kBlock;
    options.meta.max_bytes = 1 << 30;
    auto opened = Index::open(options, *lock);
    ASSERT_TRUE(opened) << opened.error().message;
    index = std::move(*opened);
  }

  Reservation reserve(const CopyName& name, uint64_t blocks) {
    std::vector<Reservation> answers;
    const std::vector<Wish> wishes{{name, blocks * kBlock}};
    index->reserve(ns, process, wishes, {}, answers);
    return answers.empty() ? Reservation{Status::Io, {}} : answers.front();
  }
  Status commit(const CopyName& name, const Key& parent, uint64_t blocks,
                std::vector<Extent> extents, Stamp now = 1) {
    const std::vector<CopyInsert> copies{
        {name, parent, blocks * kBlock, std::move(extents), std::vector<uint64_t>(blocks, 7)}};
    std::vector<Status> statuses;
    index->commit(ns, process, copies, now, statuses);
    return statuses.empty() ? Status::Io : statuses.front();
  }
  // Reserves and commits.
  Status save(const CopyName& name, const Key& parent, uint64_t blocks = 1, Stamp now = 1) {
    const Reservation reservation = reserve(name, blocks);
    if (reservation.status != Status::Ok) return reservation.status;
    return commit(name, parent, blocks, reservation.extents, now);
  }
  bool has(const CopyName& name) {
    return index->find(ns, std::span{&name, 1}).front().status == Status::Ok;
  }
  uint64_t free_blocks() {
    EXPECT_EQ(index->refresh(), Status::Ok);
    return index->usable_free();
  }
  std::string audit() {
    std::string text;
    for (const std::string& problem : index->audit()) text += problem + "\n";
    return text;
  }

  TempDir directory{in_memory()};
  std::unique_ptr<LockFile> lock;
  std::unique_ptr<Index> index;
  NamespaceId ns = 0;
  uint32_t process = 3;
};

}  // namespace penstock::test
