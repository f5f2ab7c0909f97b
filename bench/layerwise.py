"""A loop over the layers of a model, each after its layer has been loaded; for bench/gpu.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from rig import Link, Rig


class PlainLayers:
    """As many bytes as the rig loads, in plain copies from pinned memory, one for each layer: what
    the GPU and its link give without an engine."""

    def __init__(self, rig: Rig, link: Link) -> None:
        self._link = link
        self._stream = torch.cuda.Stream()
        self._layers = rig.layers
        self._bytes = rig.bytes // rig.layers
        self._fit = link.bytes // self._bytes
        assert self._fit > 0, "a layer is larger than the link's buffers"
        self._copied: list[torch.cuda.Event] = []

    def start(self) -> None:
        with torch.cuda.stream(self._stream):
            self._copied = [self._copy(layer % self._fit) for layer in range(self._layers)]

    def _copy(self, place: int) -> torch.cuda.Event:
        part = slice(place * self._bytes, (place + 1) * self._bytes)
        self._link.gpu[part].copy_(self._link.host[part], non_blocking=True)
        return self._stream.record_event()

    def wait(self, layer: int) -> None:
        """Lets the current stream wait."""
        self._copied[layer].wait()


class LayerLoop:
    """Seconds of a loop of products over all layers. Who waits for a layer:

    none     nobody, nothing is loaded
    plain    the stream, for a plain copy (PlainLayers)
    stream   the stream, for the engine's load
    caller   the caller, for the engine's load, as the vLLM connector does
    """

    WHO = ("none", "plain", "stream", "caller")

    def __init__(self, rig: Rig, link: Link) -> None:
        self._rig = rig
        self._plain = PlainLayers(rig, link)
        self._compute = torch.cuda.Stream()
        self.wait_s: list[float] = []  # of the CPU, to let the stream wait for a layer

    def seconds(self, who: str, products: Callable[[], None]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        job = self._rig.submit("load", 0, layerwise=True) if who in ("stream", "caller") else None
        if who == "plain":
            self._plain.start()
        with torch.cuda.stream(self._compute):
            for layer in range(self._rig.layers):
                if job is not None:
                    self._wait(job, layer, who)
                elif who == "plain":
                    self._plain.wait(layer)
                products()
        self._compute.synchronize()
        seconds = time.perf_counter() - start
        if job is not None:
            self._rig.finish(job)
        return seconds

    def arrivals(self) -> tuple[float, float]:
        """Seconds until the first layer of a load is there, and the last."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        job = self._rig.submit("load", 0, layerwise=True)
        self._wait(job, 0, "caller")
        first = time.perf_counter()
        self._wait(job, self._rig.layers - 1, "caller")
        last = time.perf_counter()
        self._rig.finish(job)
        return first - start, last - start

    def _wait(self, job: int, layer: int, who: str) -> None:
        engine = self._rig.engine
        if who == "caller":
            assert engine.wait_layer(job, layer, 10.0)
            return
        start = time.perf_counter()
        assert engine.wait_layer_on_stream(job, layer, self._compute.cuda_stream)
        self.wait_s.append(time.perf_counter() - start)
