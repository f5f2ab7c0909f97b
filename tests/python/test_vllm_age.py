"""max_age_s in the connector: both halves over the real core, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from halves import CHUNK, OTHER_TABLE, TABLE, TOKENS, Pair, start_load, warm
from penstock.spaces import KEPT, Epochs

LIMIT = 100.0  # epochs of 25 seconds
SAVED_AT = 1010.0  # in the one that begins at 1000
LONGER = TOKENS + list(range(500, 500 + 2 * CHUNK))  # two chunks more


class Clock:
    now = SAVED_AT

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_pair(work: Path, clock: Clock) -> Pair:
    pair = Pair(work, max_age_s=LIMIT)
    pair.scheduler._epochs = Epochs(LIMIT, clock)
    return pair


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    made = open_pair(tmp_path, clock)
    yield made
    made.close()


def hit(pair: Pair, name: str, tokens: list[int] = TOKENS) -> int | None:
    return pair.matched(pair.add(name, tokens))[0]


@pytest.mark.parametrize(
    ("now", "tokens"),
    [(SAVED_AT, 192), (1030.0, 192), (1099.9, 192), (1100.1, 0), (10_000.0, 0)],
)
def test_what_is_too_old_is_not_found(pair, clock, now, tokens):
    warm(pair)
    clock.now = now
    assert hit(pair, "later") == tokens


def test_what_was_too_old_is_saved_again_and_found(pair, clock):
    warm(pair)
    clock.now = 1200.0
    again = pair.add("again", TOKENS)
    assert pair.matched(again) == (0, False)
    pair.compute_and_save(again, TABLE)
    clock.now = 1290.0
    start_load(pair, "later")
    assert pair.wait_for_load().received == {"later"}
    for cache in pair.caches.values():
        assert torch.equal(cache[TABLE[:12]], cache[OTHER_TABLE[:12]])


def test_a_chain_goes_on_where_it_was_begun_and_ends_with_it(pair, clock):
    warm(pair)
    clock.now = 1030.0  # another epoch
    request = pair.add("longer", LONGER)
    assert pair.matched(request) == (192, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 192)
    pair.step()
    pair.wait_for_load()
    table = [*OTHER_TABLE[:12], *range(40, 50)]
    for cache in pair.caches.values():
        cache[table[12:]] = torch.rand(cache[table[12:]].shape)
    pair.step((request, table, 192, len(LONGER) - 192))
    pair.wait_for_saves()
    assert hit(pair, "whole", [*LONGER, 1]) == 5 * CHUNK
    clock.now = 1099.0
    assert hit(pair, "still", [*LONGER, 1]) == 5 * CHUNK
    clock.now = 1101.0
    assert hit(pair, "gone", [*LONGER, 1]) == 0


@pytest.mark.parametrize(("chunks", "epoch"), [(1, 40), (2, 40), (3, 41)])
def test_the_longer_of_two_chains_counts_and_the_younger_of_equal_ones(pair, clock, chunks, epoch):
    warm(pair)
    clock.now = 1030.0
    tokens = TOKENS[: chunks * CHUNK + 1]
    pair.compute_and_save(pair.add("unaware", tokens, skip_reading_prefix_cache=True), TABLE)
    request = pair.add("later", TOKENS)
    assert pair.matched(request) == (192, True)
    assert pair.scheduler._requests["later"].space.epoch == epoch
    clock.now = 1101.0
    assert hit(pair, "of the younger alone") == chunks * CHUNK


def test_an_answer_that_grows_too_old_is_asked_for_again(pair, clock):
    warm(pair)
    request = pair.add("waiting", TOKENS)
    assert pair.matched(request) == (192, True)
    clock.now = 1101.0
    assert pair.matched(request) == (0, False)


def test_another_process_counts_the_same_epochs(tmp_path, clock):
    one = open_pair(tmp_path, clock)
    warm(one)
    one.close()
    clock.now = 1060.0
    two = open_pair(tmp_path, clock)
    start_load(two, "again")
    assert two.wait_for_load().received == {"again"}
    clock.now = 1101.0
    assert hit(two, "late") == 0
    two.close()


def test_a_limit_has_namespaces_of_its_own(tmp_path, clock):
    without = Pair(tmp_path)
    warm(without)
    without.close()
    limited = open_pair(tmp_path, clock)
    assert hit(limited, "of unknown age") == 0
    limited.close()


def test_namespaces_are_remembered_up_to_a_bound(pair, clock):
    for i in range(3 * KEPT):
        clock.now = SAVED_AT + i * LIMIT
        request = pair.add(f"{i}", TOKENS)
        assert pair.matched(request) == (0, False)
        pair.compute_and_save(request, TABLE)
        assert hit(pair, f"{i} again") == 192
    assert len(pair.worker._descriptions) == KEPT
    assert len(pair.worker._namespaces) <= KEPT
