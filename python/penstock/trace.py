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


@contextmanager
def trace(path: str | Path, capacity: int = CAPACITY) -> Iterator[None]:
    """Writes the file when the block is left, however it is left. One at a time in a process."""
    _core.start_trace(capacity)
    try:
        yield
    finally:
        Path(path).write_text(_core.stop_trace(), encoding="utf-8")
