"""Ranks: the ranks of a tensor-parallel engine agree on what is retrieved.

Each has a part of every token's KV, so tokens that one of them lacks are of no use to any. All
ranks must make the same calls with the same tokens: an agreement is one broadcast from each of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

BroadcastTensor = Callable[[torch.Tensor, int], Any]
BroadcastObject = Callable[[Any, int], Any]


class Ranks:
    def __init__(
        self,
        rank: int,
        size: int,
        device: torch.device,
        broadcast: BroadcastTensor | None,
        broadcast_object: BroadcastObject | None,
    ) -> None:
        """The functions take what the rank `src` has, and `src`: the first fills or returns a
        tensor on `device`, the second returns an object.
        """
        if size > 1 and (broadcast is None or broadcast_object is None):
            raise ValueError(f"{size} ranks need broadcast_fn and broadcast_object_fn to agree")
        self._rank = rank
        self._size = size
        self._device = device
        self._broadcast = broadcast
        self._broadcast_object = broadcast_object

    def plan(self, count: int) -> int:
        """What all ranks can load, before they do: the least of their counts."""
        if self._size == 1:
            return count
        assert self._broadcast_object is not None
        mine = (count if src == self._rank else None for src in range(self._size))
        return min(self._broadcast_object(own, src) for src, own in enumerate(mine))

    def loaded(self, count: int) -> int:
        """What all ranks have loaded: a copy may have gone meanwhile, or be damaged."""
        if self._size == 1:
            return count
        assert self._broadcast is not None
        counts = []
        for src in range(self._size):
            own = torch.tensor([count], dtype=torch.int64, device=self._device)
            answer = self._broadcast(own, src)
            counts.append(int((own if answer is None else answer).item()))
        return min(counts)
