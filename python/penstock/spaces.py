"""The namespaces of an engine's copies, and the age of what is in them.

A copy belongs to the epoch in which its chain was begun, and epochs have namespaces of their own.
An epoch is a quarter of max_age_s long and begins at a multiple of that since 1970, so every
process has the same ones; copies of the last three epochs, and of this one, are younger than
max_age_s. Without max_age_s there is one epoch. What is saved again in a later epoch takes room a
second time, until the older copy, which nobody uses any more, is evicted.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

KEPT = 16  # namespaces that are remembered
_EPOCHS = 4


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def digest_of(description: Mapping[str, Any]) -> tuple[bytes, str]:
    """Digest and text of a description. What stands under "about" is for people only."""
    covered = {key: value for key, value in description.items() if key != "about"}
    return hashlib.sha256(canonical(covered).encode()).digest(), canonical(description)


class Epochs:
    def __init__(self, max_age_s: float, now: Callable[[], float] = time.time) -> None:
        self._max_age_s = max_age_s
        self._now = now

    def current(self) -> int:
        return math.floor(self._now() / self._length()) if self._max_age_s else 0

    def valid(self, max_age_s: float | None = None) -> list[int]:
        """Epochs, newest first, whose copies are all younger than max_age_s, and than the
        configured limit. ValueError: there are no epochs to tell the age by.
        """
        if not self._max_age_s:
            if max_age_s is not None:
                raise ValueError("max_age: set max_age_s in the configuration to the longest one")
            return [0]
        limit = self._max_age_s if max_age_s is None else min(max_age_s, self._max_age_s)
        now = self._now()
        oldest = math.ceil((now - limit) / self._length())
        return list(range(math.floor(now / self._length()), oldest - 1, -1))

    def _length(self) -> float:
        return self._max_age_s / _EPOCHS


@dataclass(frozen=True)
class Space:
    """A namespace that is open in an engine."""

    epoch: int
    id: int
    digest: bytes
    text: str


class Spaces:
    """Opens namespaces when they are needed, and remembers the last KEPT of them."""

    def __init__(self, describe: Callable[[int], Mapping[str, Any]]) -> None:
        """`describe`: everything that must match in an epoch; see digest_of()."""
        self._describe = describe
        self._open: dict[int, Space] = {}

    def known(self, epoch: int) -> Space | None:
        return self._open.get(epoch)

    def space(self, engine: Any, epoch: int) -> Space:
        """PenstockError: the store does not answer."""
        space = self._open.get(epoch)
        if space is None:
            digest, text = digest_of(self._describe(epoch))
            space = Space(epoch, engine.open_namespace(digest, text), digest, text)
            self._open[epoch] = space
            while len(self._open) > KEPT:
                del self._open[min(self._open)]
        return space
