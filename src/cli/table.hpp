// Table: columns of text for a terminal; the first column is left-aligned, the others right. A
// value.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace penstock::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void align_left(size_t column) { left_.insert(column); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::set<size_t> left_ = {0};
};

std::string format_bytes(uint64_t bytes);  // "1.07 GB"
std::string format_time(int64_t unix_ms);  // "2025-01-31 12:00:00", local time; "never" for 0

}  // namespace penstock::cli
