"""The worker half: moves KV of one rank between the engine's memory and the store.

Called by the worker's main thread only; the bytes are moved by the core's own thread. An
asynchronous load is reported exactly once, whatever became of it and of its request. A save is
submitted after the step that completed its chunks, and forgotten.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm.logger import init_logger

from penstock import _core
from penstock.spaces import KEPT
from penstock.trace import TraceFile
from penstock.vllm.layer_hooks import LayerHooks
from penstock.vllm.layout import NO_ROW, Plan
from penstock.vllm.memory import Memory
from penstock.vllm.messages import (
    Handshake,
    Load,
    LoadFailure,
    Save,
    StepMetadata,
    Work,
    WorkerReport,
)
from penstock.vllm.stats import EngineSamples, PenstockStats
from penstock.vllm.step_timer import StepTimer

logger = init_logger("vllm.penstock")

_RETRY = 30.0  # seconds until a store that did not answer is asked again
_AGAIN = 0.01  # seconds until a load that cannot wait for the next step is submitted again
_DRAIN = 2.0  # seconds that shutdown waits for saves; vLLM kills the process after 5


class LoadLost(RuntimeError):
    """A load within a step has failed, and vLLM would keep a token that was computed without it."""


@dataclass
class Results:
    """What a step reports of its loads."""

    received: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    invalid_blocks: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Rank:
    """This rank's place. Ranks with the same shard hold the same KV."""

    rank: int
    shard: int
    replicas: int

    @staticmethod
    def of(rank: int, replicas: int) -> Rank:
        return Rank(rank, rank // replicas, replicas)

    def writes(self, save: Save) -> bool:
        """One of the replicas writes a whole chain."""
        return save.first_key % self.replicas == self.rank % self.replicas


class WorkerHalf:
    def __init__(self, config: Any, plan: Plan, rank: Rank, overlapping: bool = False) -> None:
        """`overlapping`: vLLM schedules a step before the one before it has ended."""
        self._config = config
        self._plan = plan
        self._rank = rank
        self._overlapping = overlapping
        self._hooks = LayerHooks()
        self._by_layer = False  # the loads within this step
        self._engine: Any = None
        self._handshake: Handshake | None = None
        self._layers: dict[str, int] = {}
        self._stream: Callable[[], int | None] = lambda: None
        self._timer: StepTimer | None = None  # rank 0's: ranks keep step
        self._descriptions: dict[bytes, str] = {}  # of the namespaces that have been told of
        self._namespaces: dict[bytes, int] = {}  # of these, those that are open
        self._retry_at = 0.0
        self._loads: dict[int, Load] = {}  # by job
        self._saves: dict[int, Save] = {}
        self._ended: set[str] = set()  # requests that ended while they were loading
        self._results = Results()
        self._report = WorkerReport()
        self._stats = PenstockStats()
        self._samples: EngineSamples | None = None
        self._trace: TraceFile | None = None
        self._step_failed = False  # a load within this step

    # -- start and end ---------------------------------------------------------------------------

    def register(self, memory: Memory) -> None:
        if self._config.trace_file:
            self._trace = TraceFile.of_rank(self._config.trace_file, self._rank.rank)
        self._engine = _core.Engine.open(self._config, memory.layouts, memory.device)
        self._layers = memory.layers
        self._hooks = LayerHooks(memory.layers)
        self._stream = memory.stream
        if self._rank.rank == 0 and self._config.load_policy == "auto":
            self._timer = StepTimer(memory.device)
        self._handshake = Handshake(memory.fingerprint, memory.copy_bytes)
        if self._config.enable_metrics:
            self._samples = EngineSamples(self._engine, levels=self._rank.rank == 0)
        logger.info("penstock: rank %d: %s", self._rank.rank, self._engine.facts())

    @property
    def handshake(self) -> Handshake | None:
        return self._handshake

    def shutdown(self) -> None:
        if self._engine is None:
            return
        until = time.monotonic() + _DRAIN
        while self._saves and time.monotonic() < until:
            self._engine.wait(max(0.0, until - time.monotonic()))
            self._reap()
        self._engine.close()
        self._engine = None
        if self._trace is not None:
            self._trace.close()

    # -- a step, in the order of the calls -------------------------------------------------------

    def fence(self, step: StepMetadata) -> None:
        """Before anything of the step can write: let go of rows that have a new owner."""
        self._learn(step.namespaces)
        self._stats.add_all(step.counts if self._rank.rank == 0 else {})
        if step.allocated:
            rows, stream = step.allocated.tolist(), self._stream()
            # An id belongs to one group at a time, and groups may share memory: all of them.
            for group in range(len(self._plan.groups)):
                self._engine.release_rows(group, rows, stream=stream)
        if step.prefill is not None and self._timer is not None:
            self._timer.begin()

    def start_loads(self, step: StepMetadata, forward_context: Any = None) -> None:
        """Before the forward pass. What is loaded within the step is there when this returns, or,
        with `enable_layerwise`, layer by layer when vLLM asks for it."""
        self._step_failed = False
        self._by_layer = False
        if any(not load.is_async for load in step.loads):
            self._by_layer = self._hooks.begin(forward_context) and self._config.enable_layerwise
        if self._by_layer:
            logger.info_once("penstock: loads within a step arrive layer by layer")
        for load in step.loads:
            job = self._submit("load", load, self._rank.shard)
            if job is None and self._overlapping and not load.is_async:
                job = self._submit_at_last(load)
            if job is None:
                self._end_load(load, load.begin // self._plan.chunk, "busy")
                continue
            self._loads[job] = load
        if not self._by_layer:
            self._settle()  # nothing that follows reads the pages before they are there

    def _submit_at_last(self, load: Load) -> int | None:
        until = time.monotonic() + self._config.load_deadline_s
        job = None
        while job is None and time.monotonic() < until:
            self._engine.wait(_AGAIN)
            self._reap()
            job = self._submit("load", load, self._rank.shard)
        return job

    def wait_for_layer(self, layer_name: str) -> None:
        """Within the pass. The caller waits, on a GPU too: behind a stream that waits vLLM queues
        copies and more launches than CUDA's queue takes, and those hold up the load (decision
        0012). What vLLM launches for a layer overlaps with the load of the next.
        """
        self._hooks.asked(layer_name)
        layer = self._layers.get(layer_name)
        if not self._by_layer or layer is None:
            return
        for job, load in self._loads.items():
            if load.is_async:
                continue
            # Until it is there, or the load has ended: the core sees to its deadline.
            while not self._engine.wait_layer(job, layer, self._config.load_deadline_s):
                pass

    def submit_saves(self, step: StepMetadata) -> None:
        """After the forward pass."""
        if step.prefill is not None and self._timer is not None:
            self._timer.end(*step.prefill)
        by_layer, self._by_layer = self._by_layer, False
        if not self._hooks.end() and by_layer:
            raise LoadLost(_UNASKED)
        self._settle()
        if self._step_failed:
            return  # this step computed over KV that is not there
        for save in step.saves:
            if not self._rank.writes(save):
                continue
            job = self._submit("save", save, self._rank.shard)
            if job is None:
                self._stats.add("dropped_chunks", len(save.groups))
            else:
                self._saves[job] = save

    def results(self, ended: set[str]) -> Results:
        """Takes what became known since the last step. `ended`: requests that are over."""
        for job, load in self._loads.items():
            if load.request_id in ended:
                self._ended.add(load.request_id)
                self._engine.cancel(job)  # its blocks are held until it is reported
        self._reap()
        if self._timer is not None:
            self._timer.collect(self._report.steps)
        taken, self._results = self._results, Results()
        return taken

    def take_report(self) -> WorkerReport | None:
        taken, self._report = self._report, WorkerReport()
        return None if taken.is_empty() else taken

    def take_stats(self) -> PenstockStats | None:
        if self._samples is None:
            return None
        self._stats.add_all(self._samples.take())
        return self._stats.take()

    # -- jobs ------------------------------------------------------------------------------------

    def _submit(self, kind: str, work: Work, shard: int) -> int | None:
        namespace = self._open_namespace(work.namespace)
        if namespace is None:
            return None
        try:
            return self._engine.submit(
                kind,
                namespace,
                shard,
                bytes(work.keys),
                bytes(work.parents),
                work.groups.tolist(),
                work.rows.tolist(),
                layerwise=isinstance(work, Load) and not work.is_async and self._by_layer,
                deadline_s=work.deadline if isinstance(work, Load) else 0.0,
                stream=self._stream(),
            )
        except _core.PenstockError as error:  # ours to mend, but no reason to end the engine
            logger.error("penstock: a %s of %s was refused: %s", kind, work.request_id, error)
            return None

    def _learn(self, namespaces: dict[bytes, str]) -> None:
        self._descriptions |= namespaces
        while len(self._descriptions) > KEPT:
            oldest = next(iter(self._descriptions))
            del self._descriptions[oldest]
            self._namespaces.pop(oldest, None)

    def _open_namespace(self, digest: bytes) -> int | None:
        if digest in self._namespaces:
            return self._namespaces[digest]
        if digest not in self._descriptions or time.monotonic() < self._retry_at:
            return None
        try:
            space = self._engine.open_namespace(digest, self._descriptions[digest])
        except _core.PenstockError as error:
            logger.warning("penstock: the store does not answer: %s", error)
            self._retry_at = time.monotonic() + _RETRY
            return None
        self._namespaces[digest] = space
        return space

    def _settle(self) -> None:
        """Waits for loads within the step; the core ends each at its deadline."""
        while any(not load.is_async for load in self._loads.values()):
            self._engine.wait(self._config.load_deadline_s)
            self._reap()

    def _reap(self) -> None:
        for result in self._engine.poll():
            load = self._loads.pop(result.id, None)
            if load is not None:
                self._load_done(load, result)
            elif (save := self._saves.pop(result.id, None)) is not None:
                self._save_done(save, result)

    def _load_done(self, load: Load, result: Any) -> None:
        self._stats.add("restored_bytes", result.bytes)
        self._stats.add("restore_seconds", result.seconds)
        bad = [
            (chunk, status)
            for chunk, status in zip(load.chunks, result.chunk_status, strict=True)
            if status != "ok"
        ]
        first, status = min(bad) if bad else (-(-load.end // self._plan.chunk), "")
        if not bad:
            self._report.loads[load.request_id] = result.seconds
        self._end_load(load, first, status)

    def _end_load(self, load: Load, first_bad: int, status: str) -> None:
        """Reports a load: once to vLLM, and how it failed to the scheduler half."""
        # With several groups vLLM can only drop a load as a whole.
        whole = len(self._plan.groups) > 1
        good_until = load.end
        if status:
            good_until = load.begin if whole else max(load.begin, first_bad * self._plan.chunk)
        if self._rank.rank == 0:
            self._stats.add("restored_tokens", good_until - load.begin)
            self._stats.add("failed_tokens", load.end - good_until)
            self._stats.add("failed_loads", 1 if status else 0)
            self._stats.add("in_step_loads", 0 if load.is_async else 1)
        if load.is_async:
            self._results.received.add(load.request_id)
        if load.request_id in self._ended:
            self._ended.discard(load.request_id)
            return
        if not status:
            return
        if not load.is_async:
            self._step_failed = True
            if self._overlapping:
                raise LoadLost(_lost(load, first_bad, status))
        self._report.failures[load.request_id] = LoadFailure(first_bad, status)
        if whole:
            self._results.failed.add(load.request_id)
        else:
            self._results.invalid_blocks.update(self._rows_from(load, first_bad))

    def _rows_from(self, load: Load, first_bad: int) -> Sequence[int]:
        """Rows of a single group's load from a chunk on."""
        per_chunk = self._plan.groups[0].rows_per_chunk
        rows: array[int] = array("i")
        for i, chunk in enumerate(load.chunks):
            if chunk >= first_bad:
                rows.extend(load.rows[i * per_chunk : (i + 1) * per_chunk])
        return [row for row in rows if row != NO_ROW]

    def _save_done(self, save: Save, result: Any) -> None:
        kept = [
            c for c, status in zip(save.chunks, result.chunk_status, strict=True) if status == "ok"
        ]
        known = sum(status == "present" for status in result.chunk_status)
        self._stats.add("saved_bytes", result.bytes)
        self._stats.add("save_seconds", result.seconds)
        self._stats.add("known_chunks", known)
        self._stats.add("dropped_chunks", len(save.chunks) - len(kept) - known)
        if self._rank.shard == 0:
            self._stats.add("saved_tokens", len(set(kept)) * self._plan.chunk)


_UNASKED = (
    "penstock: vLLM computed layers without asking for their KV first, although it did so before, "
    "so this step may have read KV that was not there yet, and this engine ends. "
    "enable_layerwise: false loads all layers before a step begins"
)


def _lost(load: Load, chunk: int, status: str) -> str:
    return (
        f"penstock: chunk {chunk} of request {load.request_id} could not be loaded within the step "
        f"({status}), neither from memory nor from a drive. vLLM has scheduled the next step "
        "already and would keep a token that was computed without it, so this engine ends. "
        "load_in_step: never loads beside the steps, where such a request is computed instead"
    )
