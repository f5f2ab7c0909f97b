"""Penstock's metrics for Prometheus; docs/METRICS.md lists them::

    from penstock import metrics
    server = metrics.serve(engine, port=9478)

With vLLM this is not needed: its own /metrics has them (penstock.vllm.stats). Collector and serve()
need prometheus_client; the rest nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from penstock import _core

logger = logging.getLogger("penstock")

_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


class Family(NamedTuple):
    """A metric with all of its label values."""

    name: str  # a counter's ends in _total
    type: str  # counter | gauge | histogram
    scope: str  # engine | tier | connector
    help: str
    labels: tuple[str, ...]  # names
    sources: tuple[tuple[str, str], ...]  # (labels, the core's or the connector's own name)


class SampleName(NamedTuple):
    family: Family
    suffix: str  # of a histogram: _bucket, _sum, _count
    labels: dict[str, str]


def _families() -> Iterator[Family]:
    for name, kind, scope, text, sources in _core.metric_catalog():
        labels = ("tier",) if scope == "tier" else ()
        labels += tuple(label for label, _ in _LABEL.findall(sources[0][0]))
        yield Family(name, kind, scope, text, labels, tuple(sources))


FAMILIES: dict[str, Family] = {family.name: family for family in _families()}
BOUNDS: tuple[float, ...] = tuple(_core.HISTOGRAM_BOUNDS)


@lru_cache(maxsize=4096)
def parse(sample: str) -> SampleName:
    """What Engine.samples() names: 'penstock_load_seconds_bucket{le="0.1"}'."""
    name, _, labels = sample.partition("{")
    suffix = ""
    if name not in FAMILIES and (found := _SUFFIX.search(name)):
        suffix = found.group()
    return SampleName(FAMILIES[name.removesuffix(suffix)], suffix, dict(_LABEL.findall(labels)))


class Collector:
    """Gives an engine's metrics to a registry of prometheus_client; nothing once it is closed."""

    def __init__(self, engine: _core.Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Any]:
        return []  # so that registering asks the engine for nothing

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Metric

        try:
            samples = self._engine.samples()
        except _core.PenstockError:
            return
        found: dict[str, Any] = {}
        for sample, value in samples.items():
            family, suffix, labels = parse(sample)
            metric = found.get(family.name)
            if metric is None:
                base = family.name.removesuffix("_total")
                metric = found[family.name] = Metric(base, family.help, family.type)
            metric.add_sample(family.name + suffix, labels, value)
        yield from found.values()


class Server:
    """The endpoint /metrics, until close()."""

    def __init__(self, http: Any, thread: Any) -> None:
        self._http, self._thread = http, thread
        self.port: int = http.server_port

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def serve(engine: _core.Engine, port: int = 9478, address: str = "127.0.0.1") -> Server | None:
    """Serves an engine's metrics; port 0 takes a free one. None, and one line in the log, where
    that is not possible: metrics are no reason to end an engine."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Collector(engine))
    try:
        return Server(*start_http_server(port, addr=address, registry=registry))
    except OSError as error:
        logger.warning("penstock: no metrics on %s:%d: %s", address, port, error)
        return None
