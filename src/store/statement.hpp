// Database, Statement and Query: SQLite with errors that stick, and statements that are reset at
// once.
//
// Database owns a connection, Statement one compiled statement of it, Query one run of a statement;
// a Query resets its statement when it goes out of scope, so that no read lock outlives its use.
// The first error is remembered in the Database, and until clear_error() nothing else runs: a
// transaction whose body met an error can neither go on outside the transaction (SQLite rolls back
// on some errors by itself) nor be committed. All three belong to one thread at a time.
#pragma once

#include <sqlite3.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "penstock/key.hpp"
#include "penstock/status.hpp"

namespace penstock {

class Database {
 public:
  // `flags` as for sqlite3_open_v2; `vfs` may be empty.
  static Result<std::unique_ptr<Database>> open(const std::string& path, int flags,
                                                const std::string& vfs);

  bool exec(const char* sql) noexcept;
  int64_t integer(const std::string& sql) noexcept;  // first column of the first row; 0 on error
  std::string text(const std::string& sql);          // the same as text; empty on error

  void note(int code) noexcept;  // remembers an error; codes that are none are ignored
  // The same for what SQLite has just answered: that a page could not be read, which SQLite calls
  // damage as well, is an error of I/O.
  void note_answer(int code) noexcept;
  int error() const noexcept { return error_; }
  Status status() const noexcept;
  std::string message() const;
  void clear_error() noexcept { error_ = SQLITE_OK; }
  sqlite3* handle() const noexcept { return handle_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
  };
  std::unique_ptr<sqlite3, Close> handle_;
  int error_ = SQLITE_OK;
};

class Query {
 public:
  Query(Database& db, sqlite3_stmt* statement) noexcept : db_{db}, statement_{statement} {}
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query();

  bool row() noexcept;  // steps; true: a row is there
  bool run() noexcept;  // steps to the end; true: no error
  int64_t integer(int column) const noexcept;
  std::span<const std::byte> blob(int column) const noexcept;  // until the next step
  std::string_view text(int column) const noexcept;            // until the next step

 private:
  Database& db_;
  sqlite3_stmt* statement_;
};

class Statement {
 public:
  Statement(Database& db, const char* sql) noexcept;  // an error is noted in `db`

  // Binds the arguments in order. The Query must end before the statement is bound again.
  template <typename... Arguments>
  Query bind(const Arguments&... arguments) noexcept {
    int position = 0;
    (bind_one(++position, arguments), ...);
    return Query{db_, statement_.get()};
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
  };
  void bind_one(int position, int64_t value) noexcept;
  void bind_one(int position, std::span<const std::byte> blob) noexcept;
  void bind_one(int position, std::string_view text) noexcept;
  template <size_t size>
  void bind_one(int position, const std::array<uint8_t, size>& bytes) noexcept {
    bind_one(position, std::as_bytes(std::span{bytes}));
  }

  Database& db_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// What an error code of SQLite means to us.
Status status_of(int sqlite_code) noexcept;

}  // namespace penstock
