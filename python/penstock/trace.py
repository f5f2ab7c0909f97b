"""A trace of what the engines of this process do, for ui.perfetto.dev and chrome://tracing.

Around any loads and saves::

    from penstock.trace import trace
    with trace("out.json"):
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock import _core

CAPACITY = 1 << 16  # events that are kept, the last ones


class TraceFile:
    """A trace from now until close() writes it. One at a time in a process."""

    def __init__(self, path: str | Path, capacity: int = CAPACITY) -> None:
        self._path = Path(path)
        self._path.touch()  # a path that cannot be written to is told now
        _core.start_trace(capacity)

    @staticmethod
    def of_rank(path: str, rank: int) -> TraceFile:
        """out.json: out.0.json for rank 0."""
        whole = Path(path)
        return TraceFile(whole.with_name(f"{whole.stem}.{rank}{whole.suffix}"))

    def close(self) -> None:
        self._path.write_text(_core.stop_trace(), encoding="utf-8")


@contextmanager
def trace(path: str | Path, capacity: int = CAPACITY) -> Iterator[None]:
    """Writes the file when the block is left, however it is left. One at a time in a process."""
    file = TraceFile(path, capacity)
    try:
        yield
    finally:
        file.close()
