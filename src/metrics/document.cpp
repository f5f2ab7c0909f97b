#include <fmt/format.h>

#include <algorithm>

#include "metrics/catalog.hpp"
#include "metrics/histogram.hpp"

namespace penstock {
namespace {

constexpr std::string_view kIntroduction =
    "# Metrics\n\n"
    "What Penstock tells Prometheus. Units are bytes and seconds; counters end in `_total` and\n"
    "begin at zero when an engine is opened.\n\n"
    "- **With vLLM** they are on vLLM's own `/metrics`, with its labels (`model_name`,\n"
    "  `engine`) and its prefix: `vllm:penstock_load_bytes_total`. Counters and histograms are\n"
    "  those of all ranks together; gauges are rank 0's, which sees the same store as the\n"
    "  others. The engine's figures come about once a second, with a step.\n"
    "- **Without vLLM**, from Python: `penstock.metrics.serve(engine, port=9478)`, or\n"
    "  `penstock.metrics.Collector(engine)` in a registry of `prometheus_client`.\n"
    "- **In a terminal**: `penstock top --dir DIR`.\n\n"
    "`tier` is `local` (host memory) or `gds` (drives). `enable_metrics: false` keeps them from\n"
    "vLLM. The dashboard is [grafana/penstock.json](grafana/penstock.json); its variable\n"
    "`prefix` chooses between the two spellings.\n";

constexpr std::string_view kEnd =
    "\n"
    "This page is printed by `penstock --help-metrics`; a test keeps the two equal.\n";

std::string_view title_of(MetricScope scope) {
  switch (scope) {
    case MetricScope::Engine:
      return "Of an engine";
    case MetricScope::Tier:
      return "Of each tier's store";
    case MetricScope::Connector:
      break;
  }
  return "Of the vLLM connector";
}

// tier (local, gds), direction (read, write): names and values in the order of the sources.
std::string describe_labels(const Metric& metric) {
  std::vector<std::pair<std::string, std::vector<std::string>>> labels;
  const auto note = [&labels](const std::string& name, const std::string& value) {
    for (auto& [known, values] : labels) {
      if (known != name) continue;
      if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
      return;
    }
    labels.push_back({name, {value}});
  };
  if (metric.scope == MetricScope::Tier) labels.push_back({"tier", {}});
  for (const MetricSource& source : metric.sources) {
    std::string_view rest = source.labels;
    while (!rest.empty()) {
      const size_t equals = rest.find("=\"");
      const size_t end = rest.find('"', equals + 2);
      note(std::string{rest.substr(0, equals)},
           std::string{rest.substr(equals + 2, end - equals - 2)});
      rest.remove_prefix(std::min(rest.size(), end + 2));  // the comma too
    }
  }
  std::string text;
  for (const auto& [name, values] : labels) {
    text += fmt::format("{}`{}`", text.empty() ? "" : ", ", name);
    for (size_t i = 0; i < values.size(); ++i)
      text +=
          fmt::format("{}{}{}", i == 0 ? " (" : ", ", values[i], i + 1 == values.size() ? ")" : "");
  }
  return text;
}

}  // namespace

std::string metrics_document() {
  std::string text{kIntroduction};
  for (const MetricScope scope : {MetricScope::Engine, MetricScope::Tier, MetricScope::Connector}) {
    text += fmt::format("\n## {}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
                        title_of(scope));
    for (const Metric& metric : metric_catalog())
      if (metric.scope == scope)
        text += fmt::format("| `{}` | {} | {} | {} |\n", metric.name, to_string(metric.type),
                            describe_labels(metric), metric.help);
  }
  text += "\nBuckets of the histograms, in seconds:";
  for (const double bound : Histogram::kBounds) text += fmt::format(" {}", bound);
  text += ".\n";
  text += kEnd;
  return text;
}

}  // namespace penstock
