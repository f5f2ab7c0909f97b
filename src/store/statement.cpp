#include "store/statement.hpp"

#include <cerrno>

namespace penstock {
namespace {

// Whether the last error that a file met was a read that the drive failed. The file remembers it
// until it meets another, or an end of file: it is made to meet one.
bool take_failed_read(sqlite3* handle, int which) noexcept {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(handle, "main", which, &file) != SQLITE_OK || !file || !file->pMethods)
    return false;
  int error = 0;
  if (file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error) != SQLITE_OK)
    return false;
  char byte = 0;
  constexpr sqlite3_int64 kBeyondAnyFile = sqlite3_int64{1} << 50;
  file->pMethods->xRead(file, &byte, 1, kBeyondAnyFile);
  return error == EIO || error == ENXIO || error == ERANGE;  // those that SQLite takes for damage
}

}  // namespace

Status status_of(int sqlite_code) noexcept {
  switch (sqlite_code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
      return Status::Ok;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_INTERRUPT:
      return Status::Busy;
    case SQLITE_FULL:
      return Status::NoSpace;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_NOMEM:
    case SQLITE_AUTH:
      return Status::Io;
    case SQLITE_NOLFS:
      return Status::Unsupported;
    default:  // CORRUPT, NOTADB; ERROR, SCHEMA, MISMATCH, CONSTRAINT..: not the tables that we made
      return Status::Corrupt;
  }
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, int flags,
                                                 const std::string& vfs) {
  auto db = std::make_unique<Database>();
  sqlite3* handle = nullptr;
  // NOMUTEX: a connection is used by one thread at a time.
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX,
                                   vfs.empty() ? nullptr : vfs.c_str());
  db->handle_.reset(handle);
  if (code != SQLITE_OK) {
    const std::string reason = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
    return Error{status_of(code), "cannot open " + path + ": " + reason};
  }
  sqlite3_extended_result_codes(handle, 1);
  return db;
}

bool Database::exec(const char* sql) noexcept {
  if (error_ != SQLITE_OK) return false;
  note_answer(sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr));
  return error_ == SQLITE_OK;
}

int64_t Database::integer(const std::string& sql) noexcept {
  Statement statement{*this, sql.c_str()};
  Query query = statement.bind();
  return query.row() ? query.integer(0) : 0;
}

std::string Database::text(const std::string& sql) {
  Statement statement{*this, sql.c_str()};
  Query query = statement.bind();
  return query.row() ? std::string{query.text(0)} : std::string{};
}

void Database::note(int code) noexcept {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
  if (error_ == SQLITE_OK) error_ = code;
}

void Database::note_answer(int code) noexcept {
  const int kind = code & 0xff;
  if (kind == SQLITE_CORRUPT || kind == SQLITE_IOERR) {
    const bool in_database = take_failed_read(handle(), SQLITE_FCNTL_FILE_POINTER);
    const bool in_log = take_failed_read(handle(), SQLITE_FCNTL_JOURNAL_POINTER);
    if (in_database || in_log) code = SQLITE_IOERR_READ;
  }
  note(code);
}

Status Database::status() const noexcept {
  return status_of(error_);
}

std::string Database::message() const {
  std::string text = sqlite3_errstr(error_);
  if (sqlite3_errcode(handle()) != SQLITE_OK)
    text += std::string{" ("} + sqlite3_errmsg(handle()) + ")";
  return text;
}

Query::~Query() {
  if (statement_) sqlite3_reset(statement_);  // its code repeats the error of the last step
}

bool Query::row() noexcept {
  if (!statement_ || db_.error() != SQLITE_OK) return false;
  const int code = sqlite3_step(statement_);
  db_.note_answer(code);
  return code == SQLITE_ROW;
}

bool Query::run() noexcept {
  while (row()) {
  }
  return db_.error() == SQLITE_OK;
}

int64_t Query::integer(int column) const noexcept {
  return sqlite3_column_int64(statement_, column);
}

std::span<const std::byte> Query::blob(int column) const noexcept {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (!data || size <= 0) return {};
  return {static_cast<const std::byte*>(data), static_cast<size_t>(size)};
}

std::string_view Query::text(int column) const noexcept {
  const unsigned char* data = sqlite3_column_text(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (!data || size <= 0) return {};
  return {reinterpret_cast<const char*>(data), static_cast<size_t>(size)};
}

Statement::Statement(Database& db, const char* sql) noexcept : db_{db} {
  if (db.error() != SQLITE_OK) return;
  sqlite3_stmt* statement = nullptr;
  db.note_answer(
      sqlite3_prepare_v3(db.handle(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
  statement_.reset(statement);
}

void Statement::bind_one(int position, int64_t value) noexcept {
  if (statement_) db_.note(sqlite3_bind_int64(statement_.get(), position, value));
}

void Statement::bind_one(int position, std::span<const std::byte> blob) noexcept {
  if (!statement_) return;
  // A null pointer would bind NULL; an empty blob is meant.
  db_.note(blob.empty() ? sqlite3_bind_zeroblob(statement_.get(), position, 0)
                        : sqlite3_bind_blob64(statement_.get(), position, blob.data(), blob.size(),
                                              SQLITE_TRANSIENT));
}

void Statement::bind_one(int position, std::string_view text) noexcept {
  if (statement_)
    db_.note(sqlite3_bind_text64(statement_.get(), position, text.data(), text.size(),
                                 SQLITE_TRANSIENT, SQLITE_UTF8));
}

}  // namespace penstock
