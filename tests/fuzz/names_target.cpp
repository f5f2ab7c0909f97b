// Namespaces, keys, groups and shards as a caller gives them: what is saved under one name is found
// under it and under no other.
#include "fuzz/fuzz.hpp"
#include "support/store_rig.hpp"

namespace penstock::fuzz {

const int kRounds = 4000;

std::vector<Bytes> seeds() {
  const Bytes spec{0x11};
  const Bytes description = bytes_of("{\"model\": \"m\", \"layout\": [1, 2]}");
  Bytes names(120, 0x22);
  Bytes all = spec;
  all.push_back(static_cast<uint8_t>(description.size()));
  all.push_back(0);
  all.insert(all.end(), description.begin(), description.end());
  all.insert(all.end(), names.begin(), names.end());
  return {all, Bytes(300, 0), Bytes(300, 0xff)};
}

}  // namespace penstock::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  using namespace penstock::fuzz;
  static const test::TempDir directory{test::in_memory()};
  static test::StoreRig rig{test::options_for(directory.path(), 16 << 20, 4096)};
  const auto open = [](const NamespaceSpec& spec) {
    return test::ask<Result<NamespaceId>>(
        [&](auto done) { return rig.store->open_namespace(spec, std::move(done)); });
  };
  NamespaceSpec empty;  // nothing is ever saved in it
  empty.digest.bytes.fill(0xa5);
  static const NamespaceId other = *open(empty);
  Input input{data, size};
  NamespaceSpec spec;
  spec.digest.bytes.fill(
      input.take<uint8_t>());  // few enough that their rows do not fill the index
  spec.description = input.take_text(input.take<uint16_t>());
  if (spec.digest == empty.digest) return 0;
  const auto first = open(spec);
  const auto second = open(spec);
  require(first && second && *first == *second && *first > 0, "a namespace keeps its number");

  CopyName name;
  name.key = input.take<Key>();
  name.group = input.take<uint32_t>();
  name.shard = input.take<uint32_t>();
  GroupNeed need{name.group, input.take<uint32_t>(), input.take<uint32_t>()};
  const auto length = input.below(8) == 1 ? input.take<uint64_t>() : 1 + input.below(20'000);
  rig.ns = *first;
  const auto reservation = rig.reserve({{name, length}}).front();
  if (reservation.status == Status::Ok) {
    uint64_t blocks = 0;
    for (const Extent& extent : reservation.extents) blocks += extent.count;
    std::vector<uint64_t> checksums(blocks, length);
    const Status saved =
        rig.commit({{name, Key{}, length, reservation.extents, checksums}}).front();
    require(saved == Status::Ok, "what was reserved is published");
    const CopyRecord record = rig.find({name}).front();
    const bool same = record.length == length && record.checksums == checksums;
    // Room for more like a very large one is made at once, and copies that were just hit may stay.
    if (record.status != Status::Ok) require(blocks > 50, "what was published is found");
    if (record.status == Status::Ok) require(same, "what is found is what was published");
    rig.ns = other;
    require(rig.find({name}).front().status == Status::NotFound, "in no other namespace");
  } else {
    require(reservation.extents.empty(), "no blocks without a reason");
  }
  rig.ns = *first;
  CopyName neighbour = name;
  ++neighbour.shard;
  rig.find({neighbour});
  const auto found = test::ask<uint32_t>([&](auto done) {
    return rig.store->lookup(*first, {name.key, Key{}}, {need}, std::move(done));
  });
  require(found <= 2, "no more is found than was asked for");
  require(rig.metric("failed") == 0, "the index is in order");
  return 0;
}
