// YAML to entries. The only file that knows yaml-cpp; its exceptions end here.
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "config/load.hpp"

namespace penstock {
namespace {

// Far above any real file; they bound what aliases that refer to each other can blow up to.
constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxEntries = 1024;
constexpr int kMaxDepth = 4;

// For counting documents: what is in them does not matter.
struct Ignore final : YAML::EventHandler {
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Not YAML::LoadAll: on some malformed texts the parser finds documents without end and never moves
// on, so that it fills the memory.
bool has_several_documents(const std::string& text) {
  std::istringstream stream{text};
  YAML::Parser parser{stream};
  Ignore ignore;
  return parser.HandleNextDocument(ignore) && parser.HandleNextDocument(ignore);
}

Error at(const YAML::Mark& mark, std::string_view what) {
  return {Status::Invalid,
          fmt::format("line {}, column {}: {}", mark.line + 1, mark.column + 1, what)};
}

Result<ConfigEntry> leaf(const std::string& path, const YAML::Node& node) {
  ConfigEntry entry{.path = path, .values = {}, .is_list = node.IsSequence()};
  if (node.IsNull()) return at(node.Mark(), fmt::format("{}: has no value", path));
  if (node.IsScalar()) entry.values.push_back(node.Scalar());
  for (const YAML::Node& item : node) {
    if (!item.IsScalar())
      return at(item.Mark(), fmt::format("{}: a list may hold single values only", path));
    if (entry.values.size() == kMaxEntries)
      return at(item.Mark(), fmt::format("{}: more than {} values", path, kMaxEntries));
    entry.values.push_back(item.Scalar());
  }
  return entry;
}

Result<void> flatten(const YAML::Node& map, const std::string& prefix, int depth,
                     std::vector<ConfigEntry>& entries) {
  std::set<std::string> seen;
  for (const auto& pair : map) {
    const YAML::Node& name = pair.first;
    const YAML::Node& value = pair.second;
    if (!name.IsScalar()) return at(name.Mark(), "a key must be a single word");
    const std::string path = prefix + name.Scalar();
    if (!seen.insert(path).second) return at(name.Mark(), fmt::format("{}: given twice", path));
    if (entries.size() == kMaxEntries || depth == kMaxDepth)
      return at(name.Mark(), fmt::format("{}: too many keys or sections", path));
    if (value.IsMap()) {
      if (auto done = flatten(value, path + ".", depth + 1, entries); !done) return done;
      continue;
    }
    auto entry = leaf(path, value);
    if (!entry) return entry.take_error();
    entries.push_back(*std::move(entry));
  }
  return {};
}

}  // namespace

Result<std::vector<ConfigEntry>> parse_yaml(const std::string& text) {
  try {
    if (has_several_documents(text)) return Error{Status::Invalid, "more than one YAML document"};
    const YAML::Node document = YAML::Load(text);
    std::vector<ConfigEntry> entries;
    if (document.IsNull()) return entries;
    if (!document.IsMap()) return at(document.Mark(), "expected keys and values");
    if (auto done = flatten(document, "", 0, entries); !done) return done.take_error();
    return entries;
  } catch (const YAML::Exception& error) {
    return at(error.mark, error.msg);
  }
}

Result<std::vector<ConfigEntry>> read_yaml(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) return Error{Status::Invalid, fmt::format("{}: {}", path, std::strerror(errno))};
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof()))
    return Error{Status::Io, fmt::format("{}: cannot be read", path)};
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxBytes)
    return Error{Status::Invalid, fmt::format("{}: larger than {} bytes", path, kMaxBytes)};
  auto entries = parse_yaml(text);
  if (!entries)
    return Error{entries.status(), fmt::format("{}: {}", path, entries.error().message)};
  return entries;
}

}  // namespace penstock
