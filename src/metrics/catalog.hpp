// The catalog of metrics: one row a metric, and everything that names one reads that row: what
// Prometheus is given, docs/METRICS.md, the check of the dashboard, `penstock top`.
//
// The engine counts under short names of its own (its figures, see Engine::metrics()). A row says
// of which figures a metric is made; names follow Prometheus: base units, _total for what only
// grows. Immutable; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

using Figures = std::map<std::string, double>;

enum class MetricType : uint8_t { Counter, Gauge, Histogram };
std::string_view to_string(MetricType type);

// Where a metric's figures come from.
enum class MetricScope : uint8_t {
  Engine,     // Engine::metrics()
  Tier,       // of each store: Engine::metrics(), with the store's prefix
  Connector,  // counted by the vLLM connector, and only there
};

struct MetricSource {
  std::string_view labels = {};  // tier="gds",direction="read"; may be empty
  std::string_view figure = {};  // a histogram: the base of its figures' names
  std::string_view less = {};    // a figure to be taken off; may be empty
  double scale = 1;
};

struct Metric {
  std::string_view name = {};  // with its prefix; a counter ends in _total
  MetricType type = MetricType::Counter;
  MetricScope scope = MetricScope::Engine;
  std::string_view help = {};
  std::vector<MetricSource> sources = {};
};

std::span<const Metric> metric_catalog();

struct TierFigures {
  std::string_view tier;    // "gds"
  std::string_view prefix;  // of its figures: "", or "local_" where it stands before drives
};

struct MetricSample {
  const Metric* metric = nullptr;
  std::string suffix;  // of a histogram: "_bucket", "_sum", "_count"
  std::string labels;  // as in MetricSource
  double value = 0;

  std::string id() const;  // name_suffix{labels}
};

// What the figures say, row after row. A source whose figure is missing has no sample.
std::vector<MetricSample> samples_of(const Figures& figures, std::span<const TierFigures> tiers);

// docs/METRICS.md.
std::string metrics_document();

}  // namespace penstock
