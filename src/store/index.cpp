#include "store/index.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "store/schema.hpp"

namespace penstock {
namespace {

// Pages that only writes which give space back may take: a full index must be able to evict.
constexpr uint64_t kHeadroom = 64 * kIndexPage;
// Processes open the index one after the other; each takes milliseconds.
constexpr std::chrono::milliseconds kOpenPatience{5000};
constexpr int kBusyTimeoutMs = 100;  // another process recovers the WAL; nothing else holds us up

Error open_error(const Database& db, const std::string& path) {
  return Error{db.status(), "index " + path + ": " + db.message()};
}

Result<void> configure(Database& db, const std::string& path) {
  sqlite3* handle = db.handle();
  // SQLite would checkpoint when the last connection closes, outside of the writer lock.
  db.note(sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr));
  db.note(sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr));
  db.note(sqlite3_busy_timeout(handle, kBusyTimeoutMs));
  db.exec(
      "PRAGMA page_size = 4096; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
      "PRAGMA secure_delete = OFF; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
      "PRAGMA cache_size = -8192;");
  const std::string mode = db.text("PRAGMA journal_mode = WAL");
  db.exec("PRAGMA synchronous = NORMAL");
  const bool unreadable = db.status() == Status::Corrupt || db.error() == SQLITE_IOERR_READ;
  if (!unreadable && mode != "wal") {
    return Error{Status::Unsupported,
                 "SQLite cannot keep a write-ahead log at " + path + " (" +
                     (db.error() ? db.message() : "journal mode stays " + mode) +
                     "): the file system has no shared memory or locks; use a local one"};
  }
  if (db.error()) return open_error(db, path);
  return {};
}

// Whether there is nothing in the database yet.
bool is_blank(Database& db) {
  return db.integer("PRAGMA application_id") == 0 && db.integer("PRAGMA user_version") == 0 &&
         db.integer("SELECT count(*) FROM sqlite_master") == 0;
}

void create_tables(Database& db, const MetaRow& meta) {
  db.exec("BEGIN IMMEDIATE");
  db.exec(kSchema);
  const std::string stamp = "PRAGMA application_id = " + std::to_string(kApplicationId) +
                            "; PRAGMA user_version = " + std::to_string(kFormatVersion);
  db.exec(stamp.c_str());
  if (!db.error()) HeadRows{db}.insert_meta(meta);
  db.exec("COMMIT");
}

Result<void> check_version(Database& db, const std::string& path) {
  const int64_t application = db.integer("PRAGMA application_id");
  const int64_t version = db.integer("PRAGMA user_version");
  if (db.error()) return open_error(db, path);
  if (application != kApplicationId)
    return Error{Status::Corrupt, "index " + path + ": not an index of penstock"};
  if (version != kFormatVersion) {
    return Error{Status::Corrupt, "index " + path + ": format version " + std::to_string(version) +
                                      ", this program reads " + std::to_string(kFormatVersion) +
                                      ": another version of Penstock wrote it and can use it"};
  }
  return {};
}

int on_commit(void* wal_pages, sqlite3*, const char*, int pages) {
  *static_cast<uint64_t*>(wal_pages) = static_cast<uint64_t>(pages);
  return SQLITE_OK;
}

}  // namespace

Result<std::unique_ptr<Index>> Index::open(const IndexOptions& options, LockFile& lock) {
  const Status locked = lock.lock_writer(kOpenPatience);
  if (locked != Status::Ok)
    return Error{locked, "index " + options.path + ": another process holds its write lock"};
  struct Unlock {
    LockFile& lock;
    ~Unlock() { lock.unlock_writer(); }
  } unlock{lock};

  // SQLite would make it readable for all. This makes the file without opening a descriptor, whose
  // closing could drop locks; if it exists already, nothing happens.
  ::mknod(options.path.c_str(), S_IFREG | 0600, 0);
  auto opened =
      Database::open(options.path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, options.vfs);
  if (!opened) return opened.take_error();
  Database& db = **opened;
  if (auto done = configure(db, options.path); !done) return done.take_error();
  const bool blank = is_blank(db);
  if (blank && !db.error()) create_tables(db, options.meta);
  if (auto done = check_version(db, options.path); !done) return done.take_error();

  return finish_open(std::move(*opened), &lock, options.path, blank);
}

Result<std::unique_ptr<Index>> Index::open_to_read(const std::string& path) {
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0) {
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    return Error{absent ? Status::NotFound : Status::Io,
                 path + ": " + std::system_category().message(errno) +
                     (errno == EACCES ? "; run this as the user whose store it is" : "")};
  }
  // Not read-only for SQLite: to read the write-ahead log it writes to the shared memory.
  auto opened = Database::open(path, SQLITE_OPEN_READWRITE, "");
  if (!opened) return opened.take_error();
  Database& db = **opened;
  db.note(sqlite3_db_config(db.handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr));
  db.note(sqlite3_busy_timeout(db.handle(), kBusyTimeoutMs));
  db.exec("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON");
  if (auto done = check_version(db, path); !done) return done.take_error();
  return finish_open(std::move(*opened), nullptr, path, false);
}

Result<std::unique_ptr<Index>> Index::finish_open(std::unique_ptr<Database> opened, LockFile* lock,
                                                  const std::string& path, bool created) {
  Database& db = *opened;
  std::unique_ptr<Index> index{new Index{std::move(opened), lock, path, created}};
  if (!db.error()) index->head_.load();
  if (!db.error()) return index;
  // A statement that does not compile or a head that makes no sense: these are not our tables.
  index->corrupt_ = true;
  return open_error(db, path);
}

Index::Index(std::unique_ptr<Database> db, LockFile* lock, std::string path, bool created)
    : db_{std::move(db)},
      lock_{lock},
      path_{std::move(path)},
      created_{created},
      head_{*db_},
      free_{*db_},
      reservations_{*db_},
      copies_{*db_, head_},
      begin_read_{*db_, "BEGIN"},
      begin_write_{*db_, "BEGIN IMMEDIATE"},
      commit_{*db_, "COMMIT"},
      rollback_{*db_, "ROLLBACK"},
      find_namespace_{*db_, "SELECT id FROM namespace WHERE digest = ?"},
      add_namespace_{*db_, "INSERT INTO namespace(digest, description, created) VALUES(?, ?, ?)"} {
  sqlite3_wal_hook(db_->handle(), on_commit, &wal_pages_);  // also turns automatic ones off
}

Index::~Index() {
  checkpoint(true);
}

void Index::set_limits(const IndexLimits& limits) {
  limits_ = limits;
  db_->clear_error();
  set_page_bound(bound_of_saves(limits.database_bytes));
}

uint64_t Index::bound_of_saves(uint64_t database_bytes) noexcept {
  return database_bytes > kHeadroom ? database_bytes - kHeadroom : 0;
}

void Index::set_page_bound(uint64_t bytes) {
  constexpr uint64_t kMostPages = 4'294'967'294;
  const uint64_t pages = std::min(bytes / kIndexPage, kMostPages);
  db_->integer("PRAGMA max_page_count = " + std::to_string(std::max<uint64_t>(pages, 1)));
}

Status Index::fail() {
  const Status status = db_->status();
  last_error_ = "index " + path_ + ": " + db_->message();
  ++counters_.errors;
  if (status == Status::Corrupt) corrupt_ = true;
  db_->clear_error();
  if (!sqlite3_get_autocommit(db_->handle())) rollback_.bind().run();
  db_->clear_error();
  return status;
}

Status Index::read(const std::function<void()>& body) {
  if (corrupt_) return Status::Corrupt;
  db_->clear_error();
  begin_read_.bind().run();  // one snapshot, and one read lock instead of one a statement
  body();
  commit_.bind().run();
  return db_->error() ? fail() : Status::Ok;
}

Status Index::write(const std::function<void()>& body) {
  if (corrupt_) return Status::Corrupt;
  if (!lock_) return Status::Unsupported;
  WriterLock writer{*lock_};
  if (writer.status() != Status::Ok) return writer.status();
  // Somebody's read snapshot keeps the WAL from starting over: nothing is written until it ends.
  if (wal_bytes() > limits_.wal_bytes && checkpoint_locked(true) != Status::Ok) {
    ++counters_.rejected_wal_full;
    return Status::NoSpace;
  }
  db_->clear_error();
  begin_write_.bind().run();
  if (!db_->error() && head_.load()) {
    body();
    head_.save();
  }
  commit_.bind().run();
  if (db_->error()) return fail();
  if (wal_bytes() > limits_.checkpoint_bytes) checkpoint_locked(false);
  return Status::Ok;
}

Status Index::write_to_free(const std::function<void()>& body) {
  const Status status = write(body);
  if (status != Status::NoSpace) return status;
  set_page_bound(limits_.database_bytes);
  const Status again = write(body);
  set_limits(limits_);
  return again;
}

Status Index::refresh() {
  return read([&] { head_.load(); });
}

uint64_t Index::usable_free() const noexcept {
  uint64_t blocks = 0;
  for (const PoolRow& pool : head_.pools)
    if (is_usable(pool.id)) blocks += pool.free;
  return blocks;
}

Status Index::checkpoint(bool truncate) {
  if (corrupt_) return Status::Corrupt;
  if (!lock_) return Status::Unsupported;
  WriterLock writer{*lock_};
  if (writer.status() != Status::Ok) return writer.status();
  return checkpoint_locked(truncate);
}

Status Index::checkpoint_locked(bool truncate) {
  int wal_pages = 0;
  int copied = 0;
  db_->clear_error();
  sqlite3_busy_timeout(db_->handle(), 0);  // readers are not waited for; there is a next time
  const int code = sqlite3_wal_checkpoint_v2(
      db_->handle(), nullptr, truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
      &wal_pages, &copied);
  sqlite3_busy_timeout(db_->handle(), kBusyTimeoutMs);
  if ((code & 0xff) == SQLITE_BUSY) return Status::Busy;
  db_->note_answer(code);
  if (db_->error()) return fail();
  ++counters_.checkpoints;
  if (wal_pages == copied) wal_pages_ = 0;  // the next transaction starts the WAL over
  return Status::Ok;
}

uint64_t Index::used_bytes() {
  if (corrupt_) return 0;
  db_->clear_error();
  const int64_t pages = db_->integer("PRAGMA page_count") - db_->integer("PRAGMA freelist_count");
  if (db_->error()) fail();
  return pages > 0 ? static_cast<uint64_t>(pages) * kIndexPage : 0;
}

uint64_t Index::file_bytes() {
  if (corrupt_) return 0;
  db_->clear_error();
  const int64_t pages = db_->integer("PRAGMA page_count");
  if (db_->error()) fail();
  return pages > 0 ? static_cast<uint64_t>(pages) * kIndexPage : 0;
}

}  // namespace penstock
