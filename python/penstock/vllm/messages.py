"""What the two halves of the connector send each other. Pickled every step: flat arrays only."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

from penstock.vllm.layout import NO_ROW, NULL_BLOCK, Plan

KEY_BYTES = 32
_ROOT = bytes(KEY_BYTES)  # the parent of a chain's first chunk


@dataclass
class Work:
    """Copies to load or save: for each entry a key, its parent, a group and rows."""

    request_id: str
    namespace: bytes = b""  # digest
    keys: bytearray = field(default_factory=bytearray)
    parents: bytearray = field(default_factory=bytearray)
    groups: array[int] = field(default_factory=lambda: array("i"))
    chunks: array[int] = field(default_factory=lambda: array("i"))  # index in the request's chain
    rows: array[int] = field(default_factory=lambda: array("i"))  # rows_per_chunk of each entry

    def add(self, chain: Sequence[bytes], chunk: int, group: int, rows: Sequence[int]) -> None:
        self.keys += chain[chunk]
        self.parents += chain[chunk - 1] if chunk > 0 else _ROOT
        self.groups.append(group)
        self.chunks.append(chunk)
        self.rows.extend(rows)


@dataclass
class Load(Work):
    begin: int = 0  # tokens before this are computed
    end: int = 0  # tokens before this were claimed as hits
    is_async: bool = True
    deadline: float = 0.0  # seconds; 0: the configured ones


@dataclass
class Save(Work):
    first_key: int = 0  # of the chain: names the one writer of replicated KV


@dataclass
class StepMetadata(KVConnectorMetadata):
    """Scheduler half to worker half, every step."""

    namespaces: dict[bytes, str] = field(default_factory=dict)  # new ones: digest, description
    allocated: array[int] = field(default_factory=lambda: array("i"))  # may be overwritten now
    loads: list[Load] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    prefill: tuple[int, float] | None = None  # tokens and pairs, if the step's time tells of them
    counts: dict[str, float] = field(default_factory=dict)  # the scheduler half's statistics
    samples: bool = False  # a token comes out of this step, and statistics reach the front end


@dataclass
class Handshake(KVConnectorHandshakeMetadata):
    """Worker half to scheduler half, once: what the KV memory turned out to be."""

    layout: str  # canonical JSON; equal on all ranks
    copy_bytes: tuple[int, ...]  # of one chunk, by group


@dataclass
class LoadFailure:
    chunk: int  # the first one that is not there
    status: str


@dataclass
class WorkerReport(KVConnectorWorkerMetadata):
    """Worker half to scheduler half: what became known in this step."""

    failures: dict[str, LoadFailure] = field(default_factory=dict)  # by request
    loads: dict[str, float] = field(default_factory=dict)  # seconds of each that is complete
    steps: array[float] = field(default_factory=lambda: array("d"))  # (tokens, pairs, seconds) each

    def is_empty(self) -> bool:
        return not (self.failures or self.loads or self.steps)

    def aggregate(self, other: KVConnectorWorkerMetadata) -> WorkerReport:
        assert isinstance(other, WorkerReport)
        for request_id, failure in other.failures.items():
            known = self.failures.get(request_id)
            if known is None or failure.chunk < known.chunk:
                self.failures[request_id] = failure
        for request_id, seconds in other.loads.items():  # the slowest rank is waited for
            self.loads[request_id] = max(seconds, self.loads.get(request_id, 0.0))
        self.steps.extend(other.steps)
        return self


def fill_load(
    load: Load, plan: Plan, chain: Sequence[bytes], tables: Sequence[Sequence[int]]
) -> None:
    """Adds the copies that hold tokens [load.begin, load.end), for rows that are not there yet."""
    for chunk in range(load.begin // plan.chunk, -(-load.end // plan.chunk)):
        whole = load.begin <= chunk * plan.chunk and (chunk + 1) * plan.chunk <= load.end
        for index, group in enumerate(plan.groups):
            first = chunk * group.rows_per_chunk
            blocks = tables[index][first : first + group.rows_per_chunk]
            if whole and len(blocks) == group.rows_per_chunk and NULL_BLOCK not in blocks:
                load.add(chain, chunk, index, blocks)
                continue
            rows = [NO_ROW] * group.rows_per_chunk
            for i, block in enumerate(blocks):
                token = (first + i) * group.block_size
                if block != NULL_BLOCK and load.begin <= token < load.end:
                    rows[i] = block
            if any(row != NO_ROW for row in rows):
                load.add(chain, chunk, index, rows)


def fill_save(
    save: Save, plan: Plan, chain: Sequence[bytes], tables: Sequence[Sequence[int]], chunk: int
) -> bool:
    """Adds all groups' copies of one chunk. False, and nothing added: rows that a later hit on
    this chunk would read are gone, because they left a sliding window before the chunk was full.
    """
    copies = []
    for index, group in enumerate(plan.groups):
        first = chunk * group.rows_per_chunk
        blocks = tables[index][first : first + group.rows_per_chunk]
        needed = 0
        if group.window is not None:
            seen_from = max(0, (chunk + 1) * plan.chunk - group.window + 1)
            needed = max(0, seen_from // group.block_size - first)
        if len(blocks) < group.rows_per_chunk or NULL_BLOCK in blocks[needed:]:
            return False
        copies.append([NO_ROW if block == NULL_BLOCK else block for block in blocks])
    for index, rows in enumerate(copies):
        save.add(chain, chunk, index, rows)
    return True
