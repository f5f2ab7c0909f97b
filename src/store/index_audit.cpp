// Reports of the index: namespaces, and audit(), which reads everything and says what contradicts
// what. For tests and the command line.
#include <algorithm>
#include <cstring>
#include <map>

#include "store/index.hpp"

namespace penstock {
namespace {

constexpr size_t kMostProblems = 100;
constexpr uint32_t kRowsAtATime = 1000;

struct Use {
  uint64_t first = 0;
  uint64_t count = 0;
  std::string what;
};

class Audit {
 public:
  explicit Audit(const std::vector<PoolRow>& pools) : pools_{pools}, uses_(pools.size()) {}

  void problem(std::string text) {
    if (problems_.size() < kMostProblems) problems_.push_back(std::move(text));
  }

  void use(const Extent& extent, std::string what) {
    if (extent.pool >= pools_.size() || extent.count == 0 ||
        uint64_t{extent.first} + extent.count > pools_[extent.pool].blocks)
      return problem(what + " has blocks that its pool has not");
    uses_[extent.pool].push_back({extent.first, extent.count, std::move(what)});
  }

  // Below `keep` each block has exactly one use; above it at most one, and none of them is free.
  void check_blocks(const PoolRow& pool) {
    std::vector<Use>& uses = uses_[pool.id];
    std::sort(uses.begin(), uses.end(),
              [](const Use& a, const Use& b) { return a.first < b.first; });
    const std::string name = "pool " + std::to_string(pool.id);
    uint64_t at = 0;
    uint64_t free = 0;
    std::string before = "the start";
    for (const Use& use : uses) {
      const std::string where = name + " block " + std::to_string(std::min(at, use.first));
      if (use.first < at) problem(where + ": used by " + before + " and " + use.what);
      if (use.first > at && at < pool.keep) problem(where + ": lost after " + before);
      if (use.what == kFree) {
        free += use.count;
        if (use.first + use.count > pool.keep) problem(where + ": free, but given up");
        if (before == kFree && use.first == at) problem(where + ": free neighbours not merged");
      }
      at = std::max(at, use.first + use.count);
      before = use.what;
    }
    if (at < pool.keep) problem(name + " block " + std::to_string(at) + ": lost at the end");
    if (free != pool.free) {
      problem(name + ": " + std::to_string(free) + " blocks are free, its row says " +
              std::to_string(pool.free));
    }
  }

  static constexpr char kFree[] = "free";
  std::vector<std::string> take_problems() { return std::move(problems_); }

 private:
  const std::vector<PoolRow>& pools_;
  std::vector<std::vector<Use>> uses_;
  std::vector<std::string> problems_;
};

void check_tree(const std::map<int64_t, CopyRow>& rows, Audit& audit) {
  std::map<int64_t, int64_t> children;
  for (const auto& [id, row] : rows) {
    if (row.parent == 0) continue;
    ++children[row.parent];
    const auto parent = rows.find(row.parent);
    const std::string name = "copy " + std::to_string(id);
    if (parent == rows.end()) {
      audit.problem(name + ": its parent is not there");
    } else if (parent->second.name.group != row.name.group ||
               parent->second.name.shard != row.name.shard ||
               (parent->second.name_space > 0 && row.name_space > 0 &&
                parent->second.name_space != row.name_space)) {
      audit.problem(name + ": its parent is of another tree");
    }
  }
  for (const auto& [id, row] : rows) {
    if (row.children != children[id]) {
      audit.problem("copy " + std::to_string(id) + ": " + std::to_string(children[id]) +
                    " children, its row says " + std::to_string(row.children));
    }
  }
}

}  // namespace

Status Index::has_buried(bool& found) {
  return read([&] { found = copies_.first_buried() != 0; });
}

std::vector<NamespaceInfo> Index::namespaces() {
  std::vector<NamespaceInfo> found;
  const Status status = read([&] {
    Statement statement{
        *db_,
        "SELECT n.id, n.digest, n.description, n.created, count(c.id), "
        "total(c.length), total(c.stored), max(c.stamp) FROM namespace n LEFT JOIN copy c "
        "ON c.ns = n.id GROUP BY n.id ORDER BY n.id"};
    Query query = statement.bind();
    while (query.row()) {
      NamespaceInfo info;
      const auto digest = query.blob(1);
      if (digest.size() != info.digest.bytes.size()) return db_->note(SQLITE_CORRUPT);
      std::memcpy(info.digest.bytes.data(), digest.data(), digest.size());
      info.id = query.integer(0);
      info.description = query.text(2);
      info.created = query.integer(3);
      info.copies = static_cast<uint64_t>(query.integer(4));
      info.bytes = static_cast<uint64_t>(query.integer(5));
      info.stored = static_cast<uint64_t>(query.integer(6));
      info.last_used = query.integer(7);
      found.push_back(std::move(info));
    }
  });
  if (status != Status::Ok) found.clear();
  return found;
}

std::vector<std::string> Index::audit() {
  std::vector<std::string> problems;
  const Status status = read([&] {
    if (!head_.load()) return;
    Audit audit{head_.pools};
    if (const std::string text = db_->text("PRAGMA integrity_check"); text != "ok")
      audit.problem("SQLite: " + text);
    std::map<int64_t, CopyRow> rows;
    int64_t last = 0;
    for (auto batch = copies_.rows_after(0, kRowsAtATime); !batch.empty();
         batch = copies_.rows_after(last, kRowsAtATime)) {
      last = batch.back().id;
      for (CopyRow& row : batch) {
        const std::string name = "copy " + std::to_string(row.id);
        if (!row.is_valid) audit.problem(name + ": its row makes no sense");
        for (const Extent& extent : row.record.extents) audit.use(extent, name);
        row.record = {};
        rows.emplace(row.id, std::move(row));
      }
    }
    for (const auto& row : reservations_.rows())
      audit.use(row.extent, "process " + std::to_string(row.process));
    {
      Statement free{*db_, "SELECT pool, first, count FROM free_extent"};
      Query query = free.bind();
      while (query.row()) {
        audit.use({static_cast<uint32_t>(query.integer(0)), static_cast<uint32_t>(query.integer(1)),
                   static_cast<uint32_t>(query.integer(2))},
                  Audit::kFree);
      }
    }
    for (const PoolRow& pool : head_.pools) audit.check_blocks(pool);
    check_tree(rows, audit);
    if (rows.size() != head_.meta.copies) {
      audit.problem(std::to_string(rows.size()) + " copies, meta says " +
                    std::to_string(head_.meta.copies));
    }
    problems = audit.take_problems();
  });
  if (status != Status::Ok) problems.push_back(last_error_);
  return problems;
}

}  // namespace penstock
