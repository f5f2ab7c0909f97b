"""What the connector and its engines count, for vLLM's log line and Prometheus.

vLLM's own external-hit metrics count what was claimed when a request was admitted, failed loads
included; these count what happened. One object a step and rank, made by the worker, summed over
ranks and steps. Two kinds of names in it: the connector's own (COUNTERS; tokens are counted by one
rank only, bytes and seconds by each), and the engines' samples (penstock.metrics), counters as
what they have grown by.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

from penstock.metrics import BOUNDS, FAMILIES, Family, parse

# Shown in the log line in this order. Those of the catalog also go to Prometheus; of bytes and
# seconds it has the engines' own.
COUNTERS = (
    "restored_tokens",
    "restored_bytes",
    "restore_seconds",  # from asking for a load to its completion, summed over loads
    "saved_tokens",
    "saved_bytes",
    "save_seconds",
    "failed_loads",
    "in_step_loads",  # of all loads: within a step, not beside the steps
    "failed_tokens",
    "dropped_chunks",  # not saved: queue full, no space, or overwritten
    "known_chunks",  # not saved again
    "policy_loads",
    "policy_parts",
    "policy_computes",
    "policy_unknown",
    "policy_late",
    "load_predictions",
    "load_error_sum",
    "prefill_predictions",
    "prefill_error_sum",
)
# The catalog's name of each that has one, with its labels.
PUBLISHED: dict[str, str] = {
    figure: f"{family.name}{{{labels}}}" if labels else family.name
    for family in FAMILIES.values()
    if family.scope == "connector"
    for labels, figure in family.sources
}
PREFIX = "vllm:"  # vLLM takes metrics with its prefix away when an engine is made anew


@dataclass
class PenstockStats(KVConnectorStats):
    """Counter deltas since the last call, and levels, by name."""

    def add(self, name: str, amount: int | float) -> None:
        if name in COUNTERS:
            if amount:
                self.data[name] = self.data.get(name, 0) + amount
        elif parse(name).family.type == "gauge":
            self.data[name] = amount
        else:
            self.data[name] = self.data.get(name, 0) + amount

    def add_all(self, amounts: Mapping[str, int | float]) -> None:
        for name, amount in amounts.items():
            self.add(name, amount)

    def reset(self) -> None:
        self.data = {}

    def take(self) -> PenstockStats | None:
        """The deltas, of which none are left behind; None when there are none."""
        if not self.data:
            return None
        taken, self.data = self.data, {}
        return PenstockStats(data=taken)

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        self.add_all(other.data)
        return self

    def reduce(self) -> dict[str, int | float]:
        """The log line: the counters, and the rates and errors that people look for."""
        line = {name: self.data[name] for name in COUNTERS if name in self.data}
        for rate, amount, seconds in (
            ("restore_gbs", "restored_bytes", "restore_seconds"),
            ("save_gbs", "saved_bytes", "save_seconds"),
        ):
            if self.data.get(seconds):
                line[rate] = round(self.data.get(amount, 0) / self.data[seconds] / 1e9, 3)
        for kind in ("load", "prefill"):
            total, count = line.pop(f"{kind}_error_sum", 0), line.pop(f"{kind}_predictions", 0)
            if count:
                line[f"{kind}_error_percent"] = round(100 * total / count, 1)
        return line

    def is_empty(self) -> bool:
        """Nothing for the log line."""
        return self.data.keys().isdisjoint(COUNTERS)


class EngineSamples:
    """What an engine's counters have grown by, and its levels, at most once a second.

    Both halves of a connector may lie in one process and share a store: what it counts is taken by
    whichever asks first. Levels are of interest from one rank only.
    """

    PERIOD = 1.0  # seconds
    _store_counts: dict[str, dict[str, float]] = {}  # noqa: RUF012 - of the process, by index

    def __init__(self, engine: Any, levels: bool) -> None:
        self._engine = engine
        self._levels = levels
        self._seen: dict[str, float] = {}
        self._store_seen = self._store_counts.setdefault(engine.facts()["index_path"], {})
        self._due = 0.0

    def take(self) -> dict[str, float]:
        now = time.monotonic()
        if now < self._due:
            return {}
        self._due = now + self.PERIOD
        taken = {}
        for name, value in self._engine.samples().items():
            family = parse(name).family
            if family.type == "gauge":
                if self._levels and self._seen.get(name) != value:
                    taken[name] = self._seen[name] = value
                continue
            seen = self._store_seen if family.scope == "tier" else self._seen
            before = seen.get(name, 0.0)
            seen[name] = value
            grown = value - before if value >= before else value  # the store was opened anew
            if grown:
                taken[name] = grown
        return taken


class PenstockPromMetrics(KVConnectorPromMetrics):
    """The catalog in vLLM's Prometheus, as vllm:penstock_<name>."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: dict[type, type],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._metrics = {name: self._make(family) for name, family in FAMILIES.items()}
        self._children: dict[tuple[int, str, tuple[str, ...]], Any] = {}
        for engine in per_engine_labelvalues:  # those that count start at zero, not at nothing
            for sample in PUBLISHED.values():
                self._child(engine, sample)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        if engine_idx not in self.per_engine_labelvalues:
            return
        histograms: dict[Any, dict[str, float]] = defaultdict(dict)
        for name, amount in transfer_stats_data.items():
            name = PUBLISHED.get(name, name)
            if name in COUNTERS:
                continue  # for the log line only
            family, suffix, labels = parse(name)
            child = self._child(engine_idx, name)
            if family.type == "counter":
                child.inc(amount)
            elif family.type == "gauge":
                child.set(amount)
            elif suffix != "_count":
                histograms[child][labels.get("le", "sum")] = amount
        for child, grown in histograms.items():
            for value, times in observations(grown):
                for _ in range(times):
                    child.observe(value)

    def _make(self, family: Family) -> Any:
        names = [*self._labelnames, *family.labels]
        arguments = {"name": PREFIX + family.name, "documentation": family.help}
        if family.type == "counter":
            return self._counter_cls(labelnames=names, **arguments)
        if family.type == "gauge":
            mode = {"multiprocess_mode": "mostrecent"}
            return self._gauge_cls(labelnames=names, **arguments, **mode)
        return self._histogram_cls(labelnames=names, buckets=BOUNDS, **arguments)

    def _child(self, engine: int, sample: str) -> Any:
        family, _, labels = parse(sample)
        values = tuple(labels[name] for name in family.labels)
        key = (engine, family.name, values)
        if key not in self._children:
            own = self.per_engine_labelvalues[engine]
            self._children[key] = self._metrics[family.name].labels(*own, *values)
        return self._children[key]


def observations(grown: Mapping[str, float]) -> list[tuple[float, int]]:
    """(value, times): observations that fill a histogram's buckets as ours were filled.

    `grown`: its cumulative buckets by upper bound, and "sum". Within the buckets the values lie so
    that their sum is right too.
    """
    bounds = [f"{bound:g}" for bound in BOUNDS] + ["+Inf"]
    counts, below = [], 0.0
    for bound in bounds:
        upto = max(grown.get(bound, below), below)
        counts.append(round(upto - below))
        below = upto
    lows, highs = [0.0, *BOUNDS], [*BOUNDS, 2 * BOUNDS[-1]]
    widths = [high - low for low, high in zip(lows, highs, strict=True)]
    least = sum(n * low for n, low in zip(counts, lows, strict=True))
    spread = sum(n * width for n, width in zip(counts, widths, strict=True))
    # Above its lower bound, which belongs to the bucket before.
    part = min(max((grown.get("sum", 0.0) - least) / spread, 1e-6), 1.0) if spread else 0.0
    return [
        (min(low + part * width, high), n)
        for low, width, high, n in zip(lows, widths, highs, counts, strict=True)
        if n
    ]
