"""Request: what a call of the engine is about, checked before anything moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from penstock.compat.lmcache.pages import Pages
from penstock.keys import TokenExtras, token_keys


@dataclass(frozen=True)
class Request:
    """A prompt's whole chunks. Those before `first` are masked out."""

    tokens: list[int]
    keys: list[bytes]
    first: int
    rows: list[int]  # of the chunks from `first` on
    pages: Pages | None  # that `rows` are rows of; None: it is only looked up

    @staticmethod
    def of(
        tokens: Any,
        token_mask: Any,
        slot_mapping: Any,
        extras: TokenExtras,
        pages: Pages,
        chunk: int,
    ) -> Request:
        """ValueError: tokens, mask and slots do not fit each other, or the pages."""
        ids = as_list(tokens)
        if len(slot_mapping) != len(ids):
            raise ValueError(f"slot_mapping: {len(slot_mapping)} slots for {len(ids)} tokens")
        first = _masked(token_mask, len(ids), chunk)
        keys = token_keys(ids, chunk, extras)
        rows = pages.rows(slot_mapping, first * chunk, max(first, len(keys)) * chunk)
        return Request(ids, keys, first, rows, pages)

    def mask(self, chunks: int, chunk: int) -> torch.Tensor:
        """True for the tokens of so many chunks from `first` on."""
        mask = torch.zeros(len(self.tokens), dtype=torch.bool)
        mask[self.first * chunk : (self.first + chunks) * chunk] = True
        return mask


def as_list(tokens: Any) -> list[int]:
    return tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)


def _masked(mask: Any, tokens: int, chunk: int) -> int:
    """Chunks that a mask leaves out: its False ones, which must be a prefix of whole chunks."""
    if mask is None:
        return 0
    wanted = torch.as_tensor(mask).to("cpu", torch.bool)
    if len(wanted) != tokens:
        raise ValueError(f"token_mask: {len(wanted)} entries for {tokens} tokens")
    skipped = tokens - int(wanted.sum())
    if bool(wanted[:skipped].any()) or skipped % chunk != 0:
        raise ValueError(f"token_mask: its False ones are a prefix of whole chunks of {chunk}")
    return skipped // chunk
