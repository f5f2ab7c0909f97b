"""Loading and saving layer by layer beside a computation: generators over an Engine::

    transfers = Layerwise(engine)
    for layer in transfers.retrieve_layer(chunks, layers=32, stream=stream):
        attention(layer)  # this layer's pages are there, later layers are on their way

On a GPU `stream` waits, not the caller: a step costs microseconds, and the whole loop may be queued
before the first byte has come, if it is a few hundred kernels and no copies (see
Engine.wait_layer_on_stream in engine.hpp: CUDA lets those hold up the load). Without a stream the
caller waits.

Whether the bytes are right is known when the load is over: the loop ends with LoadFailed if they
are not, and what was computed from them must be thrown away. One thread.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from penstock._core import Engine, JobResult, PenstockError

KEY_BYTES = 32
_KEPT = 1024  # results that nobody has asked for yet; older ones are dropped
_NO_LAYER = 2**32 - 2  # no job has so many: who waits for it waits until the job is over


@dataclass(frozen=True)
class Chunks:
    """What is moved: for each copy its key, its parent's, its group, and rows_per_chunk rows."""

    namespace: int
    shard: int
    keys: bytes
    parents: bytes
    groups: Sequence[int]
    rows: Sequence[int]

    @staticmethod
    def of_chain(
        namespace: int, keys: Sequence[bytes], rows: Sequence[int], *, shard: int = 0
    ) -> Chunks:
        """A prompt's chunks from its first one on, of a model with one group of layers."""
        parents = [bytes(KEY_BYTES), *keys[:-1]]
        return Chunks(namespace, shard, b"".join(keys), b"".join(parents), [0] * len(keys), rows)


class LoadFailed(RuntimeError):
    """Not all chunks could be loaded: the pages of the others hold undefined bytes."""

    def __init__(self, result: JobResult | None) -> None:
        self.result = result
        self.status = result.status if result is not None else "busy"
        super().__init__(f"the load failed: {self.status}")


class Layerwise:
    """Takes all results of its engine: who else submits jobs to it asks here for their results."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._results: dict[int, JobResult] = {}

    def retrieve_layer(
        self,
        chunks: Chunks,
        *,
        layers: int,
        stream: int | None = None,
        deadline_s: float = 0.0,
    ) -> Generator[int, None, JobResult]:
        """Yields each layer when it may be used. A generator that is closed early cancels the load.

        LoadFailed: some chunk was not loaded; raised as soon as the caller's side knows of it.
        """
        job = self.submit("load", chunks, stream, layerwise=True, deadline_s=deadline_s)
        if job is None:
            raise LoadFailed(None)
        try:
            for layer in range(layers):
                self.wait_layer(job, layer, stream)
                if (result := self._known(job)) is not None and result.status != "ok":
                    raise LoadFailed(result)
                yield layer
            result = self._wait(job)
            if result.status != "ok":
                raise LoadFailed(result)
            return result
        finally:
            with suppress(PenstockError):  # it is over
                self.end(job)  # left early: the pages are the caller's again after it

    def store_layer(
        self, chunks: Chunks, *, layers: int, stream: int | None = None
    ) -> Generator[int, None, int | None]:
        """Yields each layer for the caller to compute; saves all of them after the last one.

        A block of a copy holds parts of several layers, so they are handed over together; the save
        then runs beside whatever the caller does next. The generator returns the job's id (None:
        the queue is full, nothing is saved); closed early, it saves nothing.
        """
        yield from range(layers)
        return self.submit("save", chunks, stream)

    def wait_layer(self, job: int, layer: int, stream: int | None) -> None:
        """Lets `stream` wait until a layer of a load is there or the load is over; without one, or
        where the pages are the host's, the caller waits.
        """
        if stream is not None and self._engine.wait_layer_on_stream(job, layer, stream):
            return
        while not self._engine.wait_layer(job, layer, 1.0):
            pass  # the job's deadline ends it

    def end(self, job: int) -> JobResult:
        """Ends a job early if it is not over, and takes its result."""
        if self._known(job) is None:
            self._engine.cancel(job)
        return self.result(job)

    def result(self, job: int) -> JobResult:
        """Waits until a job is over, which is by its deadline, and takes its result. What is raised
        meanwhile, by a signal's handler, ends the job first: the pages are the caller's again.

        PenstockError: it has been taken already, or was dropped because nobody asked for it.
        """
        try:
            self._wait(job)
        except BaseException:
            with suppress(PenstockError):  # closed: all its jobs are over
                self._engine.cancel(job)
                self._wait(job)
                del self._results[job]
            raise
        return self._results.pop(job)

    def _wait(self, job: int) -> JobResult:
        over = False
        while (result := self._known(job)) is None:
            if over:
                raise PenstockError(f"job {job} is over, and its result is not here any more")
            over = self._engine.wait_layer(job, _NO_LAYER, 1.0)
        return result

    def _known(self, job: int) -> JobResult | None:
        for result in self._engine.poll():
            self._results[result.id] = result
        while len(self._results) > _KEPT:
            del self._results[next(iter(self._results))]
        return self._results.get(job)

    def submit(
        self,
        kind: str,
        chunks: Chunks,
        stream: int | None,
        *,
        layerwise: bool = False,
        deadline_s: float = 0.0,
    ) -> int | None:
        """Queues a job; None: the queue is full."""
        return self._engine.submit(
            kind,
            chunks.namespace,
            chunks.shard,
            chunks.keys,
            chunks.parents,
            list(chunks.groups),
            list(chunks.rows),
            layerwise=layerwise,
            deadline_s=deadline_s,
            stream=stream,
        )
