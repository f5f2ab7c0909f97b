"""Keys of token ids: the core, a reference in plain Python, and the vectors in the repository."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import reference_keys
from penstock import PenstockError
from penstock.keys import TokenExtras, token_keys

VECTORS = json.loads(
    (Path(__file__).resolve().parents[1] / "golden/keys/vectors.json").read_text(encoding="utf-8")
)


def keys(tokens, chunk_size, cache_salt="", lora="", items=()):
    extras = TokenExtras(cache_salt, lora, tuple(tuple(item) for item in items))
    return token_keys(tokens, chunk_size, extras)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["about"])
def test_the_vectors(vector):
    arguments = {name: value for name, value in vector.items() if name not in ("about", "keys")}
    assert [key.hex() for key in keys(**arguments)] == vector["keys"]


def test_the_file_is_what_the_reference_says():
    assert reference_keys.vectors() == VECTORS


def test_the_core_equals_the_reference_on_random_prompts():
    dice = random.Random(7)
    for _ in range(300):
        tokens = [dice.getrandbits(32) for _ in range(dice.randrange(1, 60))]
        items = []
        for _ in range(dice.randrange(4)):
            offset = dice.randrange(len(tokens))
            length = dice.randrange(1, len(tokens) - offset + 1)
            items.append((offset, length, dice.choice(["a", "é", "image/1"])))
        arguments = (
            tokens,
            dice.randrange(1, 20),
            dice.choice(["", "salt"]),
            dice.choice(["", "lora"]),
            items,
        )
        assert keys(*arguments) == reference_keys.token_keys(*arguments)


def test_whatever_differs_makes_other_keys():
    base = keys([1, 2, 3, 4], 2)
    for other in (
        keys([1, 2, 3, 5], 2),
        keys([2, 1, 3, 4], 2),
        keys([1, 2, 3, 4], 2, cache_salt="x"),
        keys([1, 2, 3, 4], 2, lora="x"),
        keys([1, 2, 3, 4], 2, items=[(0, 4, "x")]),
        keys([1, 2, 3, 4], 2, items=[(1, 3, "x")]),
        keys([1, 2, 3, 4], 2, items=[(0, 4, "y")]),
    ):
        assert other[1] != base[1]


def test_an_item_changes_the_keys_from_its_first_chunk_on():
    plain, with_item = keys(range(8), 2), keys(range(8), 2, items=[(3, 2, "image")])
    assert plain[0] == with_item[0]
    assert all(a != b for a, b in zip(plain[1:], with_item[1:], strict=True))


def test_tensors_count_as_their_numbers():
    torch = pytest.importorskip("torch")
    assert token_keys(torch.tensor([1, 2, 3, 4]), 2) == token_keys([1, 2, 3, 4], 2)


@pytest.mark.parametrize("bad", [[-1], [1 << 32], [1.5], ["a"]])
def test_what_is_no_token_id_is_refused(bad):
    with pytest.raises(ValueError, match="token ids are whole numbers"):
        token_keys(bad, 1)


@pytest.mark.parametrize(
    "item", [(0, 0, "x"), (0, 1, ""), (3, 1, "x"), (2, 2, "x"), (1 << 63, 1, "x")]
)
def test_an_item_that_makes_no_sense_is_refused(item):
    with pytest.raises(PenstockError, match="an item has a length"):
        keys([1, 2, 3], 1, items=[item])


def test_a_chunk_has_a_token():
    with pytest.raises(PenstockError, match="at least one token"):
        token_keys([1], 0)
