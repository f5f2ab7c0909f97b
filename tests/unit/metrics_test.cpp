// Histograms and the catalog: what is counted comes out under the right name.
#include "mover/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "metrics/catalog.hpp"
#include "metrics/histogram.hpp"

namespace penstock {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::map<std::string, double> samples(const Figures& figures,
                                      std::vector<TierFigures> tiers = {{"gds", ""}}) {
  std::map<std::string, double> named;
  for (const MetricSample& sample : samples_of(figures, tiers)) {
    EXPECT_TRUE(named.emplace(sample.id(), sample.value).second) << sample.id();
  }
  return named;
}

TEST(Histogram, ABoundBelongsToItsBucket) {
  Histogram histogram;
  histogram.observe(microseconds{100});
  histogram.observe(microseconds{101});
  histogram.observe(seconds{11});
  const auto counts = histogram.cumulative();
  EXPECT_EQ(counts[0], 1);
  EXPECT_EQ(counts[1], 2);
  EXPECT_EQ(counts[Histogram::kBuckets - 2], 2);
  EXPECT_EQ(counts.back(), 3);
  EXPECT_NEAR(histogram.seconds(), 11.000201, 1e-9);
}

TEST(Histogram, AClockThatWentBackCountsAsNothing) {
  Histogram histogram;
  histogram.observe(milliseconds{-5});
  EXPECT_EQ(histogram.cumulative()[0], 1);
  EXPECT_EQ(histogram.seconds(), 0);
}

TEST(Histogram, QuantilesLieWhereMostObservationsDo) {
  Histogram histogram;
  EXPECT_EQ(quantile(histogram.cumulative(), 0.5), 0);
  for (int i = 0; i < 98; ++i) histogram.observe(milliseconds{4});
  histogram.observe(milliseconds{400});
  histogram.observe(seconds{60});
  EXPECT_GT(quantile(histogram.cumulative(), 0.5), 0.0025);
  EXPECT_LE(quantile(histogram.cumulative(), 0.5), 0.005);
  EXPECT_GT(quantile(histogram.cumulative(), 0.985), 0.25);
  EXPECT_LE(quantile(histogram.cumulative(), 0.985), 0.5);
  EXPECT_EQ(quantile(histogram.cumulative(), 1), 10);  // the last bound
}

TEST(Histogram, IsReadWhileItIsWritten) {
  Histogram histogram;
  constexpr int kTimes = 100'000;
  std::thread writer{[&] {
    for (int i = 0; i < kTimes; ++i) histogram.observe(microseconds{i});
  }};
  double last = 0;
  while (last < kTimes) {
    const auto counts = histogram.cumulative();
    EXPECT_TRUE(std::is_sorted(counts.begin(), counts.end()));
    EXPECT_GE(counts.back(), last);
    last = counts.back();
  }
  writer.join();
}

TEST(Catalog, EveryFigureOfTheMoverIsInIt) {
  std::set<std::string> used;
  for (const Metric& metric : metric_catalog())
    for (const MetricSource& source : metric.sources) {
      used.emplace(source.figure);
      used.emplace(source.less);
    }
  // Parts of others, and what fails only where a request does.
  const std::set<std::string> apart = {"local_load_chunks", "local_save_chunks",
                                       "memory_read_errors", "memory_write_errors"};
  MoverMetrics{}.visit([&](std::string name, auto) {
    if (const size_t end = name.find("_le_"); end != name.npos) name.resize(end);
    if (name.ends_with("_seconds_sum")) name.resize(name.size() - 4);
    EXPECT_TRUE(used.contains(name) || apart.contains(name)) << name;
  });
}

TEST(Catalog, TiersAreToldApart) {
  const Figures figures{{"copies", 7}, {"local_copies", 3}};
  const auto both = samples(figures, {{"local", "local_"}, {"gds", ""}});
  EXPECT_EQ(both.at("penstock_copies{tier=\"local\"}"), 3);
  EXPECT_EQ(both.at("penstock_copies{tier=\"gds\"}"), 7);
  const auto alone = samples(figures, {{"local", ""}});
  EXPECT_EQ(alone.at("penstock_copies{tier=\"local\"}"), 7);
  EXPECT_FALSE(alone.contains("penstock_copies{tier=\"gds\"}"));
}

TEST(Catalog, WhatIsTakenOffIsNeverMoreThanTheWhole) {
  const auto named = samples({{"loaded_bytes", 100}, {"local_loaded_bytes", 130}});
  EXPECT_EQ(named.at("penstock_load_bytes_total{tier=\"gds\"}"), 0);
  EXPECT_EQ(named.at("penstock_load_bytes_total{tier=\"local\"}"), 130);
}

TEST(Catalog, BaseUnits) {
  EXPECT_DOUBLE_EQ(
      samples({{"mover_cpu_micros", 2'500'000}}).at("penstock_mover_cpu_seconds_total"), 2.5);
}

TEST(Catalog, HistogramsComeAsBucketsSumAndCount) {
  Histogram histogram;
  histogram.observe(milliseconds{3});
  Figures figures;
  histogram.visit("io_read_seconds",
                  [&](const std::string& name, double value) { figures[name] = value; });
  const auto named = samples(figures);
  const std::string labels = "tier=\"gds\",direction=\"read\"";
  EXPECT_EQ(named.at("penstock_io_seconds_bucket{" + labels + ",le=\"0.0025\"}"), 0);
  EXPECT_EQ(named.at("penstock_io_seconds_bucket{" + labels + ",le=\"0.005\"}"), 1);
  EXPECT_EQ(named.at("penstock_io_seconds_bucket{" + labels + ",le=\"+Inf\"}"), 1);
  EXPECT_EQ(named.at("penstock_io_seconds_count{" + labels + "}"), 1);
  EXPECT_DOUBLE_EQ(named.at("penstock_io_seconds_sum{" + labels + "}"), 0.003);
}

}  // namespace
}  // namespace penstock
