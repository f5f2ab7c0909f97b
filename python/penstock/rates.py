"""What this machine is worth: seconds to compute tokens, seconds to load bytes, as measured.

Both are sums of two terms whose factors are fitted by least squares over recent measurements. A
measurement counts for the less the older it is; errors are relative, so that small and large ones
weigh alike. A rate is unknown until it has been measured. Plain values, one thread; no call
allocates more than a few floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_RIDGE = 1e-3  # the second term stays zero as long as nothing tells it from the first


class Fit:
    """seconds = a * x + b * y with a, b >= 0."""

    __slots__ = ("_keep", "_xt", "_xx", "_xy", "_yt", "_yy", "a", "b", "count")

    def __init__(self, memory: float) -> None:
        """`memory`: how many measurements back one has lost two thirds of its weight."""
        self._keep = 1.0 - 1.0 / memory
        self._xx = self._xy = self._yy = self._xt = self._yt = 0.0
        self.a = self.b = 0.0
        self.count = 0

    def learn(self, x: float, y: float, seconds: float, scale: float) -> None:
        """`scale`: the seconds that this measurement's error is relative to."""
        weight, keep = 1.0 / (scale * scale), self._keep
        self._xx = self._xx * keep + x * x * weight
        self._xy = self._xy * keep + x * y * weight
        self._yy = self._yy * keep + y * y * weight
        self._xt = self._xt * keep + x * seconds * weight
        self._yt = self._yt * keep + y * seconds * weight
        self.count += 1
        self._solve()

    def __call__(self, x: float, y: float) -> float:
        return self.a * x + self.b * y

    def _solve(self) -> None:
        xx, yy = self._xx, self._yy * (1.0 + _RIDGE)
        determinant = xx * yy - self._xy * self._xy
        a, b = self._xt / xx, 0.0
        if determinant > 0.0:
            b = max(0.0, (self._yt * xx - self._xt * self._xy) / determinant)
            if b > 0.0:
                a = (self._xt * yy - self._yt * self._xy) / determinant
        if a < 0.0:
            a, b = 0.0, self._yt / self._yy
        self.a, self.b = a, b


class PrefillRate:
    """Seconds to compute tokens: a for each, and b for each earlier token that each attends to.

    An error is relative to what was measured, which makes a slow step count for little: first
    steps compile kernels, and a rate that looks worse than it is would have needless loads made.
    """

    MEMORY = 50.0
    ENOUGH = 3  # measurements
    SMALL = 256  # tokens; shorter steps cost more for being steps than for their tokens

    def __init__(self) -> None:
        self._fit = Fit(self.MEMORY)

    @property
    def known(self) -> bool:
        return self._fit.count >= self.ENOUGH

    def learn(self, tokens: float, pairs: float, seconds: float) -> None:
        """A step of `tokens` tokens that attended to `pairs` earlier ones in all."""
        if tokens >= self.SMALL and seconds > 0.0:
            self._fit.learn(tokens, pairs, seconds, seconds)

    def of(self, tokens: float, pairs: float) -> float:
        return self._fit(tokens, pairs)

    def seconds(self, begin: int, end: int) -> float | None:
        """To compute tokens [begin, end) of a prompt; None: unknown."""
        return self._fit(end - begin, attended(begin, end)) if self.known else None


class TierRate:
    """Seconds until bytes are there, those counted that were asked for before and still come.

    Errors are relative to what a middling drive takes, so that one slow load counts for much and
    the tier is left alone for a while. A tier may start with an assumption, which the first
    measurement replaces. Nothing measures such a tier but its loads, so doubt about it ends.
    """

    MEMORY = 5.0
    DOUBT = 30.0  # seconds

    def __init__(
        self, assumed: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`assumed`: bytes a second that hardly any such tier falls short of."""
        self._assumed = assumed
        self._clock = clock
        self._doubted_until = 0.0
        self._fit = Fit(self.MEMORY)

    @property
    def known(self) -> bool:
        return self._fit.count > 0 or self._assumed is not None

    def learn(self, size: float, seconds: float) -> None:
        if size > 0.0 and seconds > 0.0:
            self._fit.learn(size, 1.0, seconds, 0.001 + size / 2e9)

    def seconds(self, size: float) -> float | None:
        if self._fit.count:
            return self._fit(size, 1.0)
        if self._assumed is None:
            return None
        is_doubted = self._clock() < self._doubted_until
        return size / (self._assumed / 4 if is_doubted else self._assumed)

    def forget(self) -> None:
        """A load did not come in time: unknown until it is measured, or a quarter of what is
        assumed for a while."""
        self._fit = Fit(self.MEMORY)
        self._doubted_until = self._clock() + self.DOUBT


def attended(begin: int, end: int) -> float:
    """Pairs of a token in [begin, end) and a token before it."""
    tokens = end - begin
    return tokens * begin + tokens * tokens / 2
