"""What tests of the load policy share."""

from __future__ import annotations

from array import array

from halves import Pair
from penstock.rates import PrefillRate, attended
from penstock.vllm.messages import WorkerReport
from vllm.v1.outputs import KVConnectorOutput


def teach(pair: Pair, tokens_a_second: float | None, bytes_a_second: float | None) -> None:
    """Rates, by the ways that measurements come in."""
    if tokens_a_second is not None:
        step = (1000.0, attended(0, 1000), 1000 / tokens_a_second)
        report = WorkerReport(steps=array("d", step * PrefillRate.ENOUGH))
        pair.scheduler.take_output(KVConnectorOutput(kv_connector_worker_meta=report))
    if bytes_a_second is not None:
        pair.scheduler._chooser.learn_probe(1 << 30, (1 << 30) / bytes_a_second)
