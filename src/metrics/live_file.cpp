#include "metrics/live_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <random>
#include <span>
#include <system_error>

#include "base/checksum.hpp"

namespace penstock {
namespace {

constexpr std::string_view kPrefix = "penstock.live.";
constexpr std::string_view kHeader = "penstock live 1 ";
constexpr int kTries = 3;

std::vector<std::string> list(const std::string& directory) {
  std::vector<std::string> paths;
  const std::unique_ptr<DIR, int (*)(DIR*)> open{::opendir(directory.c_str()), &::closedir};
  if (!open) return paths;
  while (const dirent* entry = ::readdir(open.get()))
    if (std::string_view{entry->d_name}.starts_with(kPrefix))
      paths.push_back(directory + "/" + entry->d_name);
  return paths;
}

UniqueFd open_file(const std::string& path, int flags) noexcept {
  return UniqueFd{::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)};
}

bool is_linked(int fd) noexcept {
  struct stat about {};
  return ::fstat(fd, &about) == 0 && about.st_nlink > 0;
}

uint64_t checksum(std::string_view text) noexcept {
  return block_checksum(std::as_bytes(std::span{text}), 0);
}

// How many are left.
size_t remove_dead(const std::string& directory) {
  size_t alive = 0;
  for (const std::string& path : list(directory)) {
    const UniqueFd fd = open_file(path, O_RDWR);
    if (fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0)
      ::unlink(path.c_str());
    else
      ++alive;
  }
  return alive;
}

// The text, if it is whole.
std::optional<std::string> read_once(int fd) {
  std::string content(LiveFile::kMaxBytes, '\0');
  const ssize_t size = ::pread(fd, content.data(), content.size(), 0);
  if (size <= 0) return std::nullopt;
  content.resize(static_cast<size_t>(size));
  if (!content.starts_with(kHeader)) return std::nullopt;
  const size_t end = content.find('\n');
  uint64_t expected = 0;
  const char* from = content.data() + kHeader.size();
  if (end == std::string::npos ||
      std::from_chars(from, content.data() + end, expected, 16).ec != std::errc{})
    return std::nullopt;
  content.erase(0, end + 1);
  if (checksum(content) != expected) return std::nullopt;
  return content;
}

}  // namespace

Result<std::unique_ptr<LiveFile>> LiveFile::create(const std::string& directory) {
  if (remove_dead(directory) >= kMaxFiles)
    return Error{Status::Busy, fmt::format("{} processes show themselves already", kMaxFiles)};
  std::random_device random;
  int error = 0;
  for (int i = 0; i < kTries; ++i) {
    std::string path = fmt::format("{}/{}{:08x}", directory, kPrefix, random());
    UniqueFd fd = open_file(path, O_RDWR | O_CREAT | O_EXCL);
    if (!fd) {
      error = errno;
      continue;
    }
    // Before it is held, another process may have taken it for a dead one's.
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && is_linked(fd.get()))
      return std::unique_ptr<LiveFile>{new LiveFile{std::move(path), std::move(fd)}};
    error = errno;
  }
  return Error{Status::Io, fmt::format("cannot create {}/{}*: {}", directory, kPrefix,
                                       std::system_category().message(error))};
}

LiveFile::~LiveFile() {
  ::unlink(path_.c_str());
}

bool LiveFile::write(std::string_view text) noexcept {
  constexpr size_t kHeaderBytes = kHeader.size() + 17;  // 16 digits and the line's end
  if (text.size() > kMaxBytes - kHeaderBytes)
    text = text.substr(0, text.rfind('\n', kMaxBytes - kHeaderBytes - 1) + 1);
  std::array<char, kMaxBytes> content;
  const auto end = fmt::format_to_n(content.data(), content.size(), "{}{:016x}\n{}", kHeader,
                                    checksum(text), text);
  // Until it is cut, a reader may see the end of what was there before; the checksum tells.
  return ::pwrite(fd_.get(), content.data(), end.size, 0) == static_cast<ssize_t>(end.size) &&
         ::ftruncate(fd_.get(), static_cast<off_t>(end.size)) == 0;
}

std::vector<std::string> read_live_files(const std::string& directory) {
  std::vector<std::string> texts;
  for (const std::string& path : list(directory)) {
    if (texts.size() == LiveFile::kMaxFiles) break;
    const UniqueFd fd = open_file(path, O_RDONLY);
    if (!fd || ::flock(fd.get(), LOCK_SH | LOCK_NB) == 0) continue;  // nobody holds it
    for (int i = 0; i < kTries; ++i) {
      auto text = read_once(fd.get());
      if (!text) continue;
      texts.push_back(std::move(*text));
      break;
    }
  }
  return texts;
}

std::string to_text(const LiveEngine& engine) {
  std::string text;
  for (const auto& [name, fact] : engine.facts) text += fmt::format("#{} {}\n", name, fact);
  for (const auto& [name, value] : engine.figures)
    if (value != 0) text += fmt::format("{} {}\n", name, value);
  return text;
}

LiveEngine parse_live_engine(std::string_view text) {
  LiveEngine engine;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + 1));
    const bool is_fact = line.starts_with('#');
    if (is_fact) line.remove_prefix(1);
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    const std::string name{line.substr(0, space)};
    line.remove_prefix(space + 1);
    if (is_fact) {
      engine.facts[name] = line;
      continue;
    }
    double value = 0;
    const auto read = std::from_chars(line.data(), line.data() + line.size(), value);
    if (read.ec == std::errc{}) engine.figures[name] = value;
  }
  return engine;
}

}  // namespace penstock
