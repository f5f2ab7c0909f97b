"""Keys of a prompt's chunks, made from its token ids: for engines that have no block hashes of
their own. The core makes them (include/penstock/token_keys.hpp); docs/FORMAT.md gives the bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock import _core

KEY_BYTES = 32


@dataclass(frozen=True)
class TokenExtras:
    """What a prompt's KV depends on besides its tokens and the model."""

    cache_salt: str = ""  # prompts with different salts share nothing
    lora: str = ""  # names an adapter and its weights
    # (first placeholder, number of placeholders, what names the contents) of images, sounds, ...
    items: tuple[tuple[int, int, str], ...] = ()


NOTHING_ELSE = TokenExtras()


def token_keys(tokens: Any, chunk_size: int, extras: TokenExtras = NOTHING_ELSE) -> list[bytes]:
    """32 bytes for each whole chunk of `tokens`, a sequence or a tensor of token ids.

    ValueError: an id that is not from 0 to 2^32 - 1. PenstockError: what the core refuses.
    """
    joined = _core.token_keys(
        _as_uint32(tokens), chunk_size, extras.cache_salt, extras.lora, list(extras.items)
    )
    return [joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES)]


def _as_uint32(tokens: Any) -> bytes:
    ids: Sequence[int] = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    try:
        words = array("I", ids)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"token ids are whole numbers from 0 to 2^32 - 1: {error}") from error
    assert words.itemsize == 4
    return words.tobytes()
