"""What the scheduler half knows about one of vLLM's requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.load_policy import Choice
from penstock.spaces import Space
from penstock.vllm.layout import Plan

if TYPE_CHECKING:
    from vllm.v1.request import Request


@dataclass
class Tracked:
    request: Request
    may_load: bool
    may_save: bool = True
    chain: list[bytes] = field(default_factory=list)  # keys of its full chunks
    lookups: list[tuple[Space, Any]] = field(default_factory=list)  # where it was asked for
    space: Space | None = None  # where it was found, or else where it is begun; None: not known yet
    asked_at: float = 0.0
    asked_preemptions: int = 0
    # Tiers from fast to slow, and chunks, from the first on, that they and faster ones hold.
    runs: list[tuple[str, int]] | None = None  # None: not known yet
    on_drives: int = 0  # chunks, from the first on, that the drives have
    choice: Choice | None = None  # the last one, until it is acted on
    is_async: bool = True  # of the last offer
    saved: int = 0  # chunks, from the first on, that are in the store or handed to the worker
    tables: tuple[list[int], ...] = ()  # own block tables, for vLLM before 0.32

    def extend_chain(self, plan: Plan) -> list[bytes]:
        hashes, step = self.request.block_hashes, plan.hashes_per_chunk
        for chunk in range(len(self.chain), len(hashes) // step):
            self.chain.append(bytes(hashes[(chunk + 1) * step - 1]))
        return self.chain

    @property
    def digest(self) -> bytes:
        """Of the namespace."""
        return self.space.digest if self.space is not None else b""

    @property
    def found(self) -> int:
        """Chunks that can be loaded."""
        return self.runs[-1][1] if self.runs else 0

    def cut(self, chunk: int) -> None:
        """This chunk is not there."""
        if self.found > chunk:
            self.runs = [(tier, min(end, chunk)) for tier, end in self.runs or ()]
            self.saved = min(self.saved, chunk)
            self.on_drives = min(self.on_drives, chunk)
