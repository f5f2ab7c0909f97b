// Jobs as a caller describes them: refused, or done once; loads bring what was saved and touch no
// other row.
#include <map>
#include <set>
#include <tuple>

#include "fuzz/fuzz.hpp"
#include "key/identity.hpp"
#include "support/files.hpp"
#include "support/rig.hpp"

namespace penstock::fuzz {

const int kRounds = 2000;

namespace {

constexpr uint32_t kRowsPerChunk = 2, kRows = 16;
using Name = std::tuple<uint32_t, uint32_t, Key>;  // shard, group, key

struct World {
  World() {
    block_identity({}, {}, 0, 0);  // OpenSSL registers its end before ours, and so outlives us
    Config config = test::config_for(directory.path(), 0.02);
    config.gds_config.block_size = 8192;
    config.gds_config.max_write_gb_per_day = 0;
    auto opened = Engine::open(config, {pages.layout()});
    require(bool(opened), "the engine opens");
    engine = std::move(*opened);
    ns = *engine->open_namespace(test::namespace_spec());
  }
  test::TempDir directory{test::in_memory()};
  test::Pages pages{2, kRows, 4096, kRowsPerChunk};
  std::unique_ptr<Engine> engine;
  NamespaceId ns = 0;
  // What the rows of a copy held when it was saved: the number that fill() was given; 0: zeros.
  std::map<Name, std::vector<uint64_t>> saved;
  uint64_t fills = 0;
  uint64_t jobs = 0;
  // Other chains after every few jobs: what is saved already is not saved again.
  Key key(uint64_t number) const { return test::key_of(number + jobs / 16 * 100); }
};

JobRequest take_request(Input& input, World& world) {
  JobRequest request;
  request.kind = input.below(2) == 0 ? JobKind::Save : JobKind::Load;
  request.namespace_id = input.below(16) == 1 ? input.take<NamespaceId>() : world.ns;
  request.shard = static_cast<uint32_t>(input.below(3));
  request.layerwise = input.below(2) == 1;
  // Long enough, or so short that it may pass.
  request.deadline = std::chrono::milliseconds{input.below(8) == 1 ? 1 : 0};
  const uint64_t chunks = input.below(7);
  for (uint64_t i = 0; i < chunks; ++i) {
    JobChunk chunk;
    const uint64_t number = input.below(24);
    chunk.key = number == 23 ? Key{} : world.key(number);
    if (number % 8 != 0) chunk.parent = world.key(number - 1);
    if (input.below(16) == 1) chunk.parent = world.key(input.below(24));
    if (input.below(16) == 1) chunk.group = input.take<uint32_t>();
    request.chunks.push_back(chunk);
  }
  const uint64_t rows = input.below(8) == 1 ? input.below(32) : chunks * kRowsPerChunk;
  for (uint64_t i = 0; i < rows; ++i)
    request.rows.push_back(input.below(32) == 1 ? input.take<int32_t>()
                                                : static_cast<int32_t>(input.below(kRows + 1)) - 1);
  return request;
}

bool holds(const test::Pages& pages, int32_t row, uint64_t content) {
  return pages.holds(static_cast<uint32_t>(row), content);
}

void check_saved(World& world, const JobRequest& request, const JobResult& result,
                 const std::vector<uint64_t>& content) {
  for (size_t i = 0; i < request.chunks.size(); ++i) {
    const Name name{request.shard, request.chunks[i].group, request.chunks[i].key};
    if (result.chunk_status[i] == Status::Present) continue;
    world.saved.erase(name);  // unless it is Ok, it is there or not
    if (result.chunk_status[i] != Status::Ok) continue;
    auto& rows = world.saved[name];
    for (uint32_t r = 0; r < kRowsPerChunk; ++r) {
      const int32_t row = request.rows[i * kRowsPerChunk + r];
      rows.push_back(row == kNoRow ? 0 : content[static_cast<size_t>(row)]);
    }
  }
}

void check_loaded(World& world, const JobRequest& request, const JobResult& result) {
  std::multiset<int32_t> named{request.rows.begin(), request.rows.end()};
  for (uint32_t row = 0; row < kRows; ++row)
    if (!named.contains(static_cast<int32_t>(row)))
      require(world.pages.untouched(row), "rows that are not named are not written");
  for (size_t i = 0; i < request.chunks.size(); ++i) {
    const Name name{request.shard, request.chunks[i].group, request.chunks[i].key};
    const auto known = world.saved.find(name);
    if (result.chunk_status[i] != Status::Ok || known == world.saved.end()) continue;
    for (uint32_t r = 0; r < kRowsPerChunk; ++r) {
      const int32_t row = request.rows[i * kRowsPerChunk + r];
      if (row == kNoRow || named.count(row) > 1 || known->second[r] == 0) continue;
      require(holds(world.pages, row, known->second[r]), "a load brings what was saved");
    }
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const uint8_t kind : {0, 1}) {
    Bytes seed{kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0};
    for (uint8_t chunk = 0; chunk < 4; ++chunk) {
      const Bytes fields{chunk, 0, 0, 0, 0, 0};
      seed.insert(seed.end(), fields.begin(), fields.end());
    }
    seed.insert(seed.end(), {0, 0});
    for (uint8_t row = 0; row < 8; ++row) {
      const Bytes fields{0, 0, static_cast<uint8_t>(row + 1), 0};
      seed.insert(seed.end(), fields.begin(), fields.end());
    }
    all.push_back(seed);
  }
  return all;
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  static World world;
  Input input{data, size};
  const JobRequest request = take_request(input, world);
  ++world.jobs;
  world.pages.wipe();
  std::vector<uint64_t> content(kRows);
  if (request.kind == JobKind::Save) {
    for (uint32_t row = 0; row < kRows; ++row) world.pages.fill(row, content[row] = ++world.fills);
  }
  const auto id = world.engine->submit(request);
  if (!id) {
    require(id.status() == Status::Invalid && !id.error().message.empty(), "a refusal says why");
    return 0;
  }
  require(world.engine->wait(std::chrono::seconds{30}), "a job ends");
  const auto results = world.engine->poll();
  require(results.size() == 1 && results[0].id == *id, "once");
  require(results[0].chunk_status.size() == request.chunks.size(), "with a status for each chunk");
  if (request.kind == JobKind::Save) {
    check_saved(world, request, results[0], content);
  } else {
    check_loaded(world, request, results[0]);
  }
  require(world.pages.neighbours_intact(), "nothing beside the pages is written");
  return 0;
}
