// Inspector: what people see of a store.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "store/inspect.hpp"
#include "support/child.hpp"
#include "support/store_rig.hpp"

namespace penstock::test {
namespace {

constexpr uint64_t kMib = 1 << 20;

TEST(Inspector, ShowsAStoreThatIsInUse) {
  TempDir directory;
  EXPECT_EQ(Inspector::open(directory.path()).status(), Status::NotFound);
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  // Well below the size: no eviction changes the figures between two looks.
  for (uint64_t i = 1; i <= 300; ++i) ASSERT_EQ(rig.save(i, 0), Status::Ok);
  auto inspector = Inspector::open(directory.path());
  ASSERT_TRUE(inspector) << inspector.error().message;
  const auto namespaces = (*inspector)->namespaces();
  ASSERT_TRUE(namespaces);
  ASSERT_EQ(namespaces->size(), 1u);
  const NamespaceInfo& info = namespaces->front();
  EXPECT_EQ(info.description, namespace_spec().description);
  EXPECT_EQ(info.digest, namespace_spec().digest);
  EXPECT_EQ(static_cast<double>(info.copies), rig.metric("copies"));
  EXPECT_EQ(info.bytes, info.copies * 65536);
  EXPECT_GT(info.last_used, 0);
  uint64_t seen = 0;
  ASSERT_TRUE((*inspector)->for_each_copy(info.id, [&](const CopyRow& row) {
    EXPECT_TRUE(row.is_valid);
    return ++seen < info.copies;
  }));
  EXPECT_EQ(seen, info.copies);
  const auto totals = (*inspector)->totals();
  ASSERT_TRUE(totals);
  EXPECT_EQ(totals->copies, info.copies);
  EXPECT_EQ(rig.save(5000), Status::Ok);  // it was not in the way
  rig.store.reset();
  StoreRig again{options_for(directory.path(), 64 * kMib)};
  EXPECT_TRUE(again.has(5000));
}

TEST(Inspector, SaysWhoseStoreItIsWhenItMayNotLook) {
  TempDir directory;
  StoreRig rig{options_for(directory.path(), 64 * kMib)};
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
  const std::string said = in_child([&]() -> std::string {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return "cannot give up root";
    const auto opened = Inspector::open(directory.path());
    return opened ? "opened" : std::string{to_string(opened.status())} + opened.error().message;
  });
  if (::geteuid() != 0) GTEST_SKIP() << "needs another user to be";
  // Who may read it need not be able to write.
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  for (const auto& file : std::filesystem::directory_iterator{directory.path()})
    ASSERT_EQ(::chmod(file.path().c_str(), 0444), 0);
  EXPECT_EQ(in_child([&]() -> std::string {
              if (::seteuid(65534) != 0) return "cannot give up root";
              const auto opened = Inspector::open(directory.path());
              if (!opened) return opened.error().message;
              const auto totals = (*opened)->totals();
              return totals ? "read" : totals.error().message;
            }),
            "read");
  EXPECT_TRUE(said.starts_with(to_string(Status::Io))) << said;
  EXPECT_NE(said.find("as the user whose store it is"), std::string::npos) << said;
}

}  // namespace
}  // namespace penstock::test
