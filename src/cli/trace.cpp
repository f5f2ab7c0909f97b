#include "cli/trace.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/sizes.hpp"
#include "key/identity.hpp"

namespace penstock::cli {
namespace {

using Line = nlohmann::json;

constexpr uint64_t kMaxTokens = 1 << 30;        // of one prompt
constexpr int64_t kMaxTime = int64_t{1} << 50;  // ms; 35,000 years
constexpr size_t kShown = 60;                   // bytes of a line that are shown

// A whole number from 0 to `most`, or nullopt.
std::optional<uint64_t> whole(const Line& value, uint64_t most) {
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<int64_t>() < 0))
    return std::nullopt;
  const auto number = value.get<uint64_t>();
  return number <= most ? std::optional{number} : std::nullopt;
}

}  // namespace

Error Trace::error(const std::string& what) const {
  return Error{Status::Invalid, fmt::format("{}:{}: {}", path_, line_, what)};
}

Result<Trace> Trace::open(const std::string& path, uint64_t block_tokens) {
  Trace trace{path, block_tokens};
  trace.file_.open(path, std::ios::binary);
  if (!trace.file_)
    return Error{Status::NotFound, fmt::format("{}: {}", path, std::strerror(errno))};
  return trace;
}

Result<std::optional<TraceRequest>> Trace::next() {
  for (;;) {
    file_.getline(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    const auto count = static_cast<uint64_t>(file_.gcount());
    if (file_.bad()) return Error{Status::Io, fmt::format("{}: it cannot be read", path_)};
    if (file_.eof() && count == 0) return std::optional<TraceRequest>{};
    ++line_;
    if (file_.fail() && !file_.eof())
      return error(fmt::format("a line of more than {} bytes", kMaxLine));
    bytes_read_ += count;
    std::string_view text{buffer_.data(), count - (file_.eof() ? 0 : 1)};  // without its end
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto request = parse(text);
    if (!request) return request.take_error();
    last_ms_ = request->time_ms;
    return std::optional{std::move(*request)};
  }
}

Result<TraceRequest> Trace::parse(std::string_view line) const {
  const Line json = Line::parse(line, nullptr, false);
  if (!json.is_object())
    return error(fmt::format("not a JSON object: {}{}", line.substr(0, kShown),
                             line.size() > kShown ? "..." : ""));
  for (const char* key : {"timestamp", "input_length", "output_length", "hash_ids"})
    if (!json.contains(key)) return error(fmt::format("{} is missing", key));
  const auto time = whole(json["timestamp"], kMaxTime);
  const auto prompt = whole(json["input_length"], kMaxTokens);
  const auto output = whole(json["output_length"], kMaxTokens);
  if (!time) return error("timestamp is not a whole number of ms from 0 on");
  if (!prompt) return error(fmt::format("input_length is not a whole number up to {}", kMaxTokens));
  if (!output)
    return error(fmt::format("output_length is not a whole number up to {}", kMaxTokens));
  TraceRequest request{static_cast<int64_t>(*time), *prompt, *output, {}};
  if (request.time_ms < last_ms_)
    return error(fmt::format("timestamp {} lies before the one above it, {}", *time, last_ms_));
  const Line& ids = json["hash_ids"];
  if (!ids.is_array()) return error("hash_ids is not a list");
  if (ids.size() != div_up(*prompt, block_tokens_))
    return error(
        fmt::format("{} hash_ids for {} tokens; at {} tokens an id there must be {} "
                    "(--trace-block)",
                    ids.size(), *prompt, block_tokens_, div_up(*prompt, block_tokens_)));
  for (const Line& id : ids) {
    const auto number = whole(id, UINT64_MAX);
    if (!number) return error("hash_ids holds something that is not a whole number from 0 on");
    request.blocks.push_back(*number);
  }
  return request;
}

Result<TraceTotals> scan_trace(const std::string& path, uint64_t block_tokens,
                               uint64_t chunk_tokens) {
  auto trace = Trace::open(path, block_tokens);
  if (!trace) return trace.take_error();
  TraceTotals totals;
  for (;;) {
    auto request = trace->next();
    if (!request) return request.take_error();
    if (!*request) break;
    const TraceRequest& one = **request;
    if (totals.requests++ == 0) totals.first_ms = one.time_ms;
    totals.last_ms = one.time_ms;
    totals.prompt_tokens += one.prompt_tokens;
    totals.output_tokens += one.output_tokens;
    totals.chunks += one.prompt_tokens / chunk_tokens;
  }
  totals.bytes = trace->bytes_read();
  if (totals.requests == 0)
    return Error{Status::Invalid, fmt::format("{}: there is no request in it", path)};
  return totals;
}

std::vector<Key> chunk_keys(const TraceRequest& request, uint64_t block_tokens,
                            uint64_t chunk_tokens) {
  std::vector<Key> keys;
  Key parent;
  for (uint64_t end = chunk_tokens; end <= request.prompt_tokens; end += chunk_tokens) {
    std::vector<uint32_t> words;
    for (uint64_t i = (end - chunk_tokens) / block_tokens; i < div_up(end, block_tokens); ++i) {
      words.push_back(static_cast<uint32_t>(request.blocks[i]));
      words.push_back(static_cast<uint32_t>(request.blocks[i] >> 32));
    }
    parent = chain_key(parent, words.data(), words.size());
    keys.push_back(parent);
  }
  return keys;
}

}  // namespace penstock::cli
