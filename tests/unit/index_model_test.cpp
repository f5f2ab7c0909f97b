// The index against a model: any sequence of calls, and the search for the longest prefix.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <set>

#include "store/index.hpp"
#include "store/prefix_search.hpp"
#include "support/index_rig.hpp"

namespace penstock::test {
namespace {

// longest_prefix against its definition, over arbitrary presence.
TEST(PrefixSearch, IsTheLongestEndThatEveryGroupAllows) {
  const bool good = rc::check([] {
    const auto chunks = *rc::gen::inRange<uint32_t>(0, 24);
    const std::vector<GroupNeed> needs{{0, 2, 0},
                                       {1, 1, *rc::gen::inRange<uint32_t>(1, 6)},
                                       {2, 2, *rc::gen::inRange<uint32_t>(1, 4)}};
    std::set<std::tuple<uint32_t, uint32_t, uint32_t>> present;
    for (const GroupNeed& need : needs) {
      for (uint32_t shard = 0; shard < need.shards; ++shard) {
        const auto prefix = *rc::gen::inRange<uint32_t>(0, chunks + 1);
        for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
          const bool there = need.window_chunks == 0
                                 ? chunk < prefix
                                 : *rc::gen::weightedElement<bool>({{6, true}, {1, false}});
          if (there) present.emplace(need.group, shard, chunk);
        }
      }
    }
    const auto is_present = [&](uint32_t group, uint32_t shard, uint32_t chunk) {
      return present.contains({group, shard, chunk});
    };
    uint32_t expected = 0;
    for (uint32_t end = 1; end <= chunks; ++end) {
      bool all = true;
      for (const GroupNeed& need : needs) {
        const uint32_t first =
            need.window_chunks == 0 || need.window_chunks > end ? 0 : end - need.window_chunks;
        for (uint32_t shard = 0; shard < need.shards; ++shard)
          for (uint32_t chunk = first; chunk < end; ++chunk)
            all = all && is_present(need.group, shard, chunk);
      }
      if (all) expected = end;
    }
    RC_ASSERT(longest_prefix(chunks, needs, true, is_present) == expected);
    RC_ASSERT(longest_prefix(chunks, needs, false, is_present) == expected);
  });
  EXPECT_TRUE(good);
}

// The model: what must be there, and how many blocks that takes.
struct ModelCopy {
  std::string parent;  // empty: none
  uint64_t blocks = 0;
  Stamp stamp = 0;
  uint64_t order = 0;  // of insertion: breaks ties between stamps
  int children = 0;
};

class Model {
 public:
  void save(const std::string& path, uint64_t blocks, Stamp now) {
    const std::string parent = path.substr(0, path.size() - 1);
    if (!parent.empty()) ++copies[parent].children;
    copies[path] = {parent, blocks, now, ++order_, 0};
  }
  void drop(const std::string& path) {
    const ModelCopy copy = copies[path];
    copies.erase(path);
    if (copy.parent.empty()) return;
    ModelCopy& parent = copies[copy.parent];
    --parent.children;
    parent.stamp = std::max(parent.stamp, copy.stamp);
  }
  void drop_tree(const std::string& path) {
    std::vector<std::string> doomed;
    for (const auto& [other, copy] : copies)
      if (other.starts_with(path)) doomed.push_back(other);
    std::sort(doomed.rbegin(), doomed.rend());  // children before parents
    for (const std::string& other : doomed) drop(other);
  }
  void evict(uint64_t goal, uint64_t total) {
    while (total - used() < goal && !copies.empty()) {
      const auto oldest = std::min_element(copies.begin(), copies.end(), [](auto& a, auto& b) {
        return std::tuple{a.second.children > 0, a.second.stamp, a.second.order} <
               std::tuple{b.second.children > 0, b.second.stamp, b.second.order};
      });
      drop(std::string{oldest->first});
    }
  }
  uint64_t used() const {
    uint64_t blocks = 0;
    for (const auto& [path, copy] : copies) blocks += copy.blocks;
    return blocks;
  }
  std::map<std::string, ModelCopy> copies;  // "ab": chunk b under chunk a; prefix-closed by name

 private:
  uint64_t order_ = 0;
};

Key key_of_path(const std::string& path) {
  return path.empty() ? Key{} : key_of(std::hash<std::string>{}(path));
}

TEST(Index, BehavesLikeAModelAndNeverLosesABlock) {
  constexpr uint64_t kBlocks = 40;
  const bool good = rc::check([] {
    IndexRig rig{{kBlocks / 2, kBlocks / 2}};
    Model model;
    Stamp now = 0;
    const auto steps = *rc::gen::inRange(5, 40);
    for (int step = 0; step < steps; ++step) {
      const auto path = *rc::gen::nonEmpty(rc::gen::resize(
          4, rc::gen::container<std::string>(rc::gen::elementOf(std::string{"abc"}))));
      const CopyName name{key_of_path(path), 0, 0};
      const std::string parent = path.substr(0, path.size() - 1);
      ++now;
      switch (*rc::gen::weightedElement<int>({{8, 0}, {1, 1}, {2, 2}, {2, 3}, {1, 4}, {1, 5}})) {
        case 0: {  // save
          const auto blocks = *rc::gen::inRange<uint64_t>(1, 6);
          Status expected = Status::Ok;
          if (model.copies.contains(path))
            expected = Status::Present;
          else if (kBlocks - model.used() < blocks)
            expected = Status::NoSpace;
          else if (!parent.empty() && !model.copies.contains(parent))
            expected = Status::NotFound;
          RC_ASSERT(rig.save(name, key_of_path(parent), blocks, now) == expected);
          if (expected == Status::Ok) model.save(path, blocks, now);
          break;
        }
        case 1: {  // reserve, then think better of it
          const Reservation reservation = rig.reserve(name, 2);
          RC_ASSERT(rig.index->release(rig.process, reservation.extents) == Status::Ok);
          break;
        }
        case 2: {  // evict
          const auto goal = *rc::gen::inRange<uint64_t>(0, kBlocks + 1);
          uint32_t removed = 0;
          RC_ASSERT(rig.index->evict(goal, 1000, removed) == Status::Ok);
          model.evict(goal, kBlocks);
          break;
        }
        case 3: {  // use
          const auto records = rig.index->find(rig.ns, std::span{&name, 1});
          RC_ASSERT((records[0].status == Status::Ok) == model.copies.contains(path));
          if (records[0].status != Status::Ok) break;
          RC_ASSERT(rig.index->stamp(std::span{&records[0].id, 1}, now) == Status::Ok);
          model.copies[path].stamp = now;
          break;
        }
        case 4: {  // damage
          const auto records = rig.index->find(rig.ns, std::span{&name, 1});
          if (records[0].status != Status::Ok) break;
          RC_ASSERT(rig.index->bury(std::span{&records[0].id, 1}) == Status::Ok);
          uint32_t removed = 0;
          RC_ASSERT(rig.index->sweep(1000, removed) == Status::Ok);
          model.drop_tree(path);
          break;
        }
        default:
          rig.reopen();
      }
      RC_ASSERT(rig.free_blocks() == kBlocks - model.used());
      RC_ASSERT(rig.index->meta().copies == model.copies.size());
      std::vector<Key> chain;
      uint32_t expected = 0;
      for (size_t i = 1; i <= path.size(); ++i) {
        chain.push_back(key_of_path(path.substr(0, i)));
        if (model.copies.contains(path.substr(0, i))) expected = static_cast<uint32_t>(i);
      }
      const std::vector<GroupNeed> needs{{0, 1, 0}};
      RC_ASSERT(rig.index->lookup(rig.ns, chain, needs) == expected);
    }
    RC_ASSERT(rig.audit() == "");
  });
  EXPECT_TRUE(good);
}

}  // namespace
}  // namespace penstock::test
