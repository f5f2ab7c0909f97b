// From figures to samples.
#include <fmt/format.h>

#include <algorithm>

#include "metrics/catalog.hpp"
#include "metrics/histogram.hpp"

namespace penstock {
namespace {

class Reader {
 public:
  Reader(const Figures& figures, std::vector<MetricSample>& samples)
      : figures_{figures}, samples_{samples} {}

  void read(const Metric& metric, const MetricSource& source, const TierFigures& tier) {
    std::string labels{source.labels};
    if (!tier.tier.empty())
      labels = fmt::format("tier=\"{}\"{}{}", tier.tier, labels.empty() ? "" : ",", labels);
    const std::string figure = fmt::format("{}{}", tier.prefix, source.figure);
    if (metric.type == MetricType::Histogram) return read_histogram(metric, figure, labels);
    const double* value = find(figure);
    if (value == nullptr) return;
    const double* less =
        source.less.empty() ? nullptr : find(fmt::format("{}{}", tier.prefix, source.less));
    // The two are not read at one moment.
    const double rest = std::max(*value - (less == nullptr ? 0 : *less), 0.0);
    samples_.push_back({&metric, "", labels, rest * source.scale});
  }

 private:
  const double* find(const std::string& figure) const {
    const auto found = figures_.find(figure);
    return found == figures_.end() ? nullptr : &found->second;
  }

  void read_histogram(const Metric& metric, const std::string& figure, const std::string& labels) {
    if (find(figure + "_sum") == nullptr) return;
    double count = 0;
    for (size_t i = 0; i < Histogram::kBuckets; ++i) {
      const double* value = find(figure + Histogram::suffix(i));
      count = value == nullptr ? count : *value;
      const std::string bound =
          i < Histogram::kBounds.size() ? fmt::format("{}", Histogram::kBounds[i]) : "+Inf";
      samples_.push_back({&metric, "_bucket",
                          fmt::format("{}{}le=\"{}\"", labels, labels.empty() ? "" : ",", bound),
                          count});
    }
    samples_.push_back({&metric, "_sum", labels, *find(figure + "_sum")});
    samples_.push_back({&metric, "_count", labels, count});
  }

  const Figures& figures_;
  std::vector<MetricSample>& samples_;
};

}  // namespace

std::string MetricSample::id() const {
  const std::string name = fmt::format("{}{}", metric->name, suffix);
  return labels.empty() ? name : fmt::format("{}{{{}}}", name, labels);
}

std::vector<MetricSample> samples_of(const Figures& figures, std::span<const TierFigures> tiers) {
  std::vector<MetricSample> samples;
  Reader reader{figures, samples};
  for (const Metric& metric : metric_catalog()) {
    if (metric.scope != MetricScope::Tier) {
      for (const MetricSource& source : metric.sources) reader.read(metric, source, {});
      continue;
    }
    for (const TierFigures& tier : tiers)
      for (const MetricSource& source : metric.sources) reader.read(metric, source, tier);
  }
  return samples;
}

}  // namespace penstock
