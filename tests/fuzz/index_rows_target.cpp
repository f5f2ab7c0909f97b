// Rows of the index with any value of any type in any column: files that SQLite finds in order, and
// that make no sense all the same.
#include <fmt/format.h>

#include "fuzz/index_use.hpp"

namespace penstock::fuzz {

const int kRounds = 500;

namespace {

struct Column {
  const char* table;
  const char* column;
};
constexpr Column kColumns[] = {
    {"meta", "store"},
    {"meta", "block_size"},
    {"meta", "max_bytes"},
    {"meta", "copies"},
    {"meta", "day"},
    {"meta", "written"},
    {"meta", "evictions"},
    {"pool", "id"},
    {"pool", "directory"},
    {"pool", "uuid"},
    {"pool", "generation"},
    {"pool", "blocks"},
    {"pool", "keep"},
    {"pool", "free"},
    {"copy", "id"},
    {"copy", "ns"},
    {"copy", "key"},
    {"copy", "grp"},
    {"copy", "shard"},
    {"copy", "parent"},
    {"copy", "children"},
    {"copy", "stamp"},
    {"copy", "length"},
    {"copy", "extents"},
    {"copy", "checksums"},
    {"free_extent", "pool"},
    {"free_extent", "first"},
    {"free_extent", "count"},
    {"reservation", "pool"},
    {"reservation", "first"},
    {"reservation", "count"},
    {"reservation", "writer"},
    {"namespace", "id"},
    {"namespace", "digest"},
    {"namespace", "description"},
};

std::string literal(Input& input) {
  switch (input.below(5)) {
    case 0:
      return std::to_string(input.take<int64_t>());
    case 1:
      return std::to_string(input.take<int8_t>());
    case 2:
      return fmt::format("CAST(x'{:02x}' AS TEXT)",
                         fmt::join(input.take_bytes(input.below(40)), ""));
    case 3:
      return fmt::format("{:e}", static_cast<double>(input.take<int64_t>()) * 1e3);
    default:
      return fmt::format("x'{:02x}'", fmt::join(input.take_bytes(input.below(64)), ""));
  }
}

// One change; those that a constraint forbids do nothing.
void change(Database& db, Input& input) {
  const Column& place = kColumns[input.below(std::size(kColumns))];
  const uint64_t action = input.below(8);
  const uint64_t row = input.below(20);
  // Every table has a column that tells its rows apart.
  const std::string name = std::string_view{place.table}.find("e") == 1 && place.table[0] == 'r'
                               ? "first"
                           : place.table[0] == 'f' ? "first"
                                                   : "id";
  const std::string where = fmt::format(
      " WHERE {0} = (SELECT {0} FROM {1} ORDER BY {0} LIMIT 1 OFFSET {2})", name, place.table, row);
  if (action == 0)
    db.exec(fmt::format("DELETE FROM {}{}", place.table, where).c_str());
  else
    db.exec(fmt::format("UPDATE {} SET {} = {}{}", place.table, place.column, literal(input),
                        action == 1 ? "" : where)
                .c_str());
  db.clear_error();
}

const IndexFiles& sound() {
  static const IndexFiles files = sound_index();
  return files;
}

}  // namespace

std::vector<Bytes> seeds() {
  Bytes all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<uint8_t>(i * 37));
  return {Bytes{}, all};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  static const test::TempDir directory{test::in_memory()};
  clear_index(directory.path());
  test::write_file(directory / "penstock.db", sound().database);
  {
    auto db = Database::open(directory / "penstock.db", SQLITE_OPEN_READWRITE, "");
    require(bool(db), "the sound index opens");
    (*db)->exec("BEGIN");
    Input input{data, size};
    for (int changes = 0; !input.empty() && changes < 6; ++changes) change(**db, input);
    (*db)->exec("COMMIT");
    require((*db)->error() == SQLITE_OK, "changes are written");
  }
  open_and_use(directory.path());
  return 0;
}
