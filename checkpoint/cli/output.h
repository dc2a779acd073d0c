// What the commands print: tables and JSON on stdout, notes and errors on stderr.
//
// JSON documents carry "schema_version": 1; fields may be added, never changed. 64-bit numbers that name something
// (steps, generations) are strings, because many JSON readers round them; sizes and counts are numbers.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::cli {

inline constexpr int kJsonSchemaVersion = 1;

void Print(const std::string& text);  // stdout, as is
void Note(const std::string& line);   // stderr, "belay: " before it

// Says the error in both forms as asked and returns its exit status. With `json` the document is
//   {"schema_version": 1, "error": {"code": 101, "name": "NotFound", "message": "...", "exit_status": 66, "retry":
//   "..."}}
int Report(const base::Error& error, bool json);

// Columns as wide as their widest cell; two blanks between. Numbers go to the right.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "45s", "12m", "3h", "9d" since an RFC 3339 time in UTC; "-" if it is none.
std::string AgeText(const std::string& created, base::WallTime now);
std::string ShapeText(const std::vector<std::int64_t>& shape);  // "[768, 3072]"
std::string MetricsText(double value);                          // enough digits to read, not to compute with

}  // namespace belay::checkpoint::cli
