"""docs/FORMAT.md, "Keys from token ids", a second time in plain Python: what the core must equal.

Run as a program it prints tests/golden/keys/vectors.json, which the tests of both languages read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence

Item = tuple[int, int, str]


def token_keys(
    tokens: Sequence[int],
    chunk_size: int,
    cache_salt: str = "",
    lora: str = "",
    items: Sequence[Item] = (),
) -> list[bytes]:
    keys, parent = [], bytes(32)
    for begin in range(0, len(tokens) - chunk_size + 1, chunk_size):
        end = begin + chunk_size
        message = parent + struct.pack(f"<{chunk_size}I", *tokens[begin:end])
        if begin == 0:
            for kind, text in ((1, cache_salt), (2, lora)):
                if text:
                    message += _entry(kind, text.encode())
        for offset, length, identifier in sorted(items, key=lambda i: (i[0], i[2].encode())):
            if offset < end and offset + length > begin:
                message += _entry(3, struct.pack("<q", offset - begin) + identifier.encode())
        parent = hashlib.sha256(message).digest()
        keys.append(parent)
    return keys


def _entry(kind: int, payload: bytes) -> bytes:
    return struct.pack("<BI", kind, len(payload)) + payload


CASES: list[dict] = [
    {"about": "no whole chunk", "tokens": [1, 2, 3], "chunk_size": 4},
    {"about": "one chunk", "tokens": [1, 2, 3, 4], "chunk_size": 4},
    {"about": "a rest has no key", "tokens": [1, 2, 3, 4, 5, 6, 7], "chunk_size": 4},
    {"about": "the same chunk twice", "tokens": [7, 7, 7, 7], "chunk_size": 2},
    {"about": "chunks of one token", "tokens": [0, 4294967295], "chunk_size": 1},
    {"about": "a prompt", "tokens": [i * i % 151936 for i in range(600)], "chunk_size": 256},
    {"about": "a salt", "tokens": [1, 2, 3, 4], "chunk_size": 2, "cache_salt": "tenant"},
    {"about": "an adapter", "tokens": [1, 2, 3, 4], "chunk_size": 2, "lora": "tenant"},
    {
        "about": "salt and adapter, in UTF-8",
        "tokens": [1, 2],
        "chunk_size": 2,
        "cache_salt": "塩",
        "lora": "sql-lora@7",
    },
    {
        "about": "an image over the first two of three chunks",
        "tokens": [5, 9, 9, 9, 9, 6],
        "chunk_size": 2,
        "items": [[1, 3, "sha256:aa"]],
    },
    {
        "about": "two images, given in any order",
        "tokens": [9, 9, 9, 9],
        "chunk_size": 4,
        "items": [[2, 2, "b"], [0, 2, "a"]],
    },
    {
        "about": "everything",
        "tokens": list(range(100, 112)),
        "chunk_size": 4,
        "cache_salt": "s",
        "lora": "l",
        "items": [[3, 6, "image"], [10, 1, "sound"]],
    },
]


def vectors() -> list[dict]:
    made = []
    for case in CASES:
        arguments = {name: value for name, value in case.items() if name != "about"}
        made.append({**case, "keys": [key.hex() for key in token_keys(**arguments)]})
    return made


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors())
    print(f"[\n{lines}\n]")
