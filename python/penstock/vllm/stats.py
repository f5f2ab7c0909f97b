"""What the connector counts for vLLM's log line and Prometheus.

vLLM's own external-hit metrics count what was claimed when a request was admitted, failed loads
included; these count what happened. One object a step and rank, made by the worker, summed over
ranks and steps. Tokens are counted by one rank only, bytes and seconds by each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

COUNTERS = {
    "restored_tokens": "tokens whose KV came from the store",
    "restored_bytes": "bytes restored from the store",
    "restore_seconds": "seconds from asking for a load to its completion, summed over loads",
    "saved_tokens": "tokens whose KV was saved",
    "saved_bytes": "bytes saved to the store",
    "save_seconds": "seconds from handing over a save to its completion, summed over saves",
    "failed_loads": "loads that failed and were computed instead",
    "failed_tokens": "tokens that were claimed as hits and had to be computed",
    "dropped_chunks": "chunks that were not saved: queue full, no space, or overwritten",
    "known_chunks": "chunks that were there already and were not saved again",
    "policy_loads": "hits that were loaded as a whole",
    "policy_parts": "hits of which only the part in a faster tier was loaded",
    "policy_computes": "hits that were computed, which was expected to be sooner",
    "policy_unknown": "hits that were computed while a rate was not known",
    "policy_late": "loads that missed the deadline of their prediction",
    "load_predictions": "loads whose time was predicted and measured",
    "load_error_sum": "relative errors of these predictions, summed",
    "prefill_predictions": "steps whose time was predicted and measured",
    "prefill_error_sum": "relative errors of these predictions, summed",
}


@dataclass
class PenstockStats(KVConnectorStats):
    """Counter deltas since the last call, by name."""

    def add(self, name: str, amount: int | float) -> None:
        if name not in COUNTERS:
            raise KeyError(name)
        if amount:
            self.data[name] = self.data.get(name, 0) + amount

    def add_all(self, amounts: Mapping[str, int | float]) -> None:
        for name, amount in amounts.items():
            self.add(name, amount)

    def reset(self) -> None:
        self.data = {}

    def take(self) -> PenstockStats | None:
        """The deltas, of which none are left behind; None when there are none."""
        if self.is_empty():
            return None
        taken, self.data = self.data, {}
        return PenstockStats(data=taken)

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        for name, amount in other.data.items():
            self.data[name] = self.data.get(name, 0) + amount
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
        return not self.data


class PenstockPromMetrics(KVConnectorPromMetrics):
    """The same counters in Prometheus, as vllm:penstock_<name>."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: dict[type, type],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters: dict[tuple[int, str], Any] = {}
        for name, meaning in COUNTERS.items():
            counter = self._counter_cls(
                name=f"vllm:penstock_{name}", documentation=meaning, labelnames=labelnames
            )
            for engine, values in per_engine_labelvalues.items():
                self._counters[engine, name] = counter.labels(*values)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, amount in transfer_stats_data.items():
            counter = self._counters.get((engine_idx, name))
            if counter is not None:
                counter.inc(amount)
