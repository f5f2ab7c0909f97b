"""Load or compute: how far to load a prefix of the store, so that the prompt is ready soonest.

An engine does not compute a request's tokens while it loads others of the same request, so the two
times add up. Loads are of prefixes. Later tokens cost more to compute than earlier ones, and bytes
of one tier cost the same wherever they are, so the best end of a load is an end of what some tier
holds, or none at all: a handful of candidates, compared by

    cost(end) = seconds to load up to the end + (1 + waiting) * seconds to compute the rest

`waiting` requests want the GPU as well: each second of computing is a second for each of them too,
while a load lets them go on. So a saturated GPU moves the balance to loading.

A load must be worth it: its prediction is taken MARGIN times, plus what asking costs. Where a rate
is unknown, what would need it is computed. Pure functions; no state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

MARGIN = 1.2  # of a load's prediction, against its error
OVERHEAD = 0.002  # seconds; an asynchronous load is noticed a step after it is complete
PATIENCE = 1.5  # of a load's prediction: its deadline
LEAST_DEADLINE = 0.02  # seconds


class Choice(NamedTuple):
    end: int  # chunks, from the prompt's first on, that are to be there when the load is over
    load_seconds: float  # predicted; 0: nothing is loaded
    is_known: bool  # False: a rate was missing that could have changed the choice

    @property
    def loads(self) -> bool:
        return self.load_seconds > 0.0

    @property
    def deadline(self) -> float:
        return max(LEAST_DEADLINE, PATIENCE * self.load_seconds)


LoadSeconds = Callable[[str, int], "float | None"]  # of bytes from a tier; None: unknown
ComputeSeconds = Callable[[int, int], "float | None"]  # of tokens [begin, end)


def choose(
    *,
    begin: int,
    total: int,
    chunk: int,
    copy_bytes: int,
    runs: Sequence[tuple[str, int]],
    load_seconds: LoadSeconds,
    compute_seconds: ComputeSeconds,
    waiting: int = 0,
) -> Choice:
    """How far to load a prompt of `total` tokens of which `begin` are there already.

    `runs`: tiers from fast to slow with the chunks, from the first on, that they and the faster
    ones hold; no run may reach beyond the prompt.
    """
    first = begin // chunk
    nothing = Choice(first, 0.0, True)
    if not any(end > first for _, end in runs):
        return nothing
    compute = compute_seconds(begin, total)
    if compute is None:
        return nothing._replace(is_known=False)
    best, least = nothing, (1 + waiting) * compute
    at, load = first, 0.0
    for tier, end in runs:
        if end <= at:
            continue
        seconds = load_seconds(tier, (end - at) * copy_bytes)
        if seconds is None:
            return best._replace(is_known=False)
        at, load = end, load + seconds
        rest = compute_seconds(end * chunk, total)
        assert rest is not None  # the whole was known
        cost = MARGIN * load + OVERHEAD + (1 + waiting) * rest
        if cost < least:
            best, least = Choice(end, load, True), cost
    return best
