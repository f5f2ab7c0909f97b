"""Loads within a step, for the scheduler half: which hits are one, and which are under way.

A load beside the steps is reported, and scheduled, before vLLM launches the step that uses it. One
within the step arrives layer by layer while vLLM launches the pass (LayerHooks says when). The
price is that whatever runs beside it waits too, and that with asynchronous scheduling a load that
fails cannot be taken back: vLLM has scheduled the next step by then, and keeps its token. So only
an engine that has nothing else to do loads this way, from memory, and with asynchronous scheduling
only what the drives could give as well. One thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.vllm.layout import Plan


class InStep:
    """Owned by the scheduler half."""

    def __init__(self, config: Any, plan: Plan, overlapping: bool) -> None:
        # With several groups vLLM ends when a load within a step fails.
        self._enabled = config.load_in_step == "memory" and len(plan.groups) == 1
        self.overlapping = overlapping  # steps are scheduled before the one before them has ended
        # Of the last load that came back, unless one has failed since: all ranks know it.
        self._proven: bytes | None = None
        self._busy: set[str] = set()  # requests that compute or load
        self._loads: dict[str, tuple[bytes, bool]] = {}  # namespace, and whether within a step

    def suits(
        self,
        request_id: str,
        namespace: bytes,
        end: int,
        runs: Sequence[tuple[str, int]],
        on_drives: int,
    ) -> bool:
        """Whether a hit of `end` chunks is loaded within the step. `runs`: where they lie, from
        fast to slow; `on_drives`: chunks, from the first on, that the drives have."""
        if not self._enabled or self._proven != namespace or self._busy - {request_id}:
            return False
        in_memory = runs[0][1] if runs and runs[0][0] == "local" else 0
        return end <= in_memory and (not self.overlapping or end <= on_drives)

    def start(self, request_id: str, namespace: bytes, within: bool) -> None:
        """A load of any kind begins. Its workers report it, also when its request ends before."""
        self._loads[request_id] = namespace, within

    def is_loading(self, request_id: str) -> bool:
        return self._loads.get(request_id, (b"", False))[1]

    def end(self, request_id: str, good: bool) -> None:
        """A load has ended, of any kind; another connector's may, too."""
        if request_id in self._loads:
            namespace, _ = self._loads.pop(request_id)
            self._proven = namespace if good else None

    def busy(self, request_id: str) -> None:
        """A request has been given something to compute, or a load."""
        self._busy.add(request_id)

    def finished(self, request_id: str) -> None:
        self._busy.discard(request_id)
