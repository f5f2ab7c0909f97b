"""Load or compute, for the scheduler half: the rates that this engine has shown, and the choice.

Learns from the steps and loads that the workers report, and from the probe. Predicts a load with
what is queued before it in the same tier, and keeps account of how right the predictions are. One
thread; `choose` changes nothing, so that vLLM may ask as often as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.load_policy import Choice, choose
from penstock.rates import PrefillRate, TierRate, attended
from penstock.vllm.layout import Plan

MEMORY_RATE = 8e9  # bytes a second; assumed of memory until the first load from it
_PREFILL = 0.8  # of a measured step's tokens belong to prompts; decoding costs otherwise

Runs = Sequence[tuple[str, int]]  # tiers from fast to slow, chunks that they and faster ones hold


class _Part(NamedTuple):
    """What a load under way brings from one tier."""

    tier: str
    size: int
    queued: int  # bytes that were to come before it
    predicted: float | None


class LoadChooser:
    def __init__(self, config: Any, plan: Plan) -> None:
        self._always = config.load_policy == "always"
        self._longest = config.load_deadline_s
        self._chunk = plan.chunk
        # Of a sliding window only the end is loaded: small beside the groups that need all.
        self._whole = [not group.window_chunks for group in plan.groups]
        self._copy_bytes = 0
        self._prefill = PrefillRate()
        self._tiers = {"local": TierRate(MEMORY_RATE), "gds": TierRate()}
        self._pending: dict[str, list[_Part]] = {}
        self._measured: dict[str, float] = {}  # seconds, by request
        self._counts: dict[str, float] = {}
        self._tokens = self._prompt_tokens = 0
        self._pairs = 0.0

    def set_copy_bytes(self, by_group: Sequence[int]) -> None:
        """Bytes of a chunk on one rank; ranks load at the same time."""
        whole = sum(size for size, is_whole in zip(by_group, self._whole, strict=True) if is_whole)
        self._copy_bytes = whole or sum(by_group)

    # -- choices ---------------------------------------------------------------------------------

    def choose(self, begin: int, total: int, runs: Runs, waiting: int) -> Choice:
        """Of a prompt of `total` tokens `begin` are there; `waiting` others want the GPU."""
        if self._always:
            end = max(begin // self._chunk, runs[-1][1] if runs else 0)
            return Choice(end, 0.0, True)
        return choose(
            begin=begin,
            total=total,
            chunk=self._chunk,
            copy_bytes=self._copy_bytes,
            runs=runs,
            load_seconds=self._load_seconds,
            compute_seconds=self._prefill.seconds,
            waiting=waiting,
        )

    def deadline(self, choice: Choice) -> float:
        """Seconds for a load; 0: the configured ones."""
        return 0.0 if self._always else min(choice.deadline, self._longest)

    def started(self, request_id: str, begin: int, choice: Choice, runs: Runs) -> None:
        """A load that was chosen begins."""
        at, parts = begin // self._chunk, []
        for tier, end in runs:
            upto = min(end, choice.end)
            if upto > at:
                size = (upto - at) * self._copy_bytes
                parts.append(_Part(tier, size, self._queued(tier), self._load_seconds(tier, size)))
                at = upto
        self._pending[request_id] = parts
        self._count("policy_loads" if not runs or choice.end >= runs[-1][1] else "policy_parts")

    def computed(self, choice: Choice) -> None:
        """A request that could have loaded is computed."""
        self._count("policy_computes" if choice.is_known else "policy_unknown")

    # -- measurements ----------------------------------------------------------------------------

    def scheduled(self, computed: int, tokens: int) -> None:
        """A request's part in the step that is being built."""
        self._tokens += tokens
        if tokens > 1:
            self._prompt_tokens += tokens
            self._pairs += attended(computed, computed + tokens)

    def take_step(self) -> tuple[int, float] | None:
        """(tokens, pairs) of the step that was built, if its time tells about prefill."""
        tokens, prompt_tokens, pairs = self._tokens, self._prompt_tokens, self._pairs
        self._tokens = self._prompt_tokens = 0
        self._pairs = 0.0
        if tokens < PrefillRate.SMALL or prompt_tokens < _PREFILL * tokens:
            return None
        return tokens, pairs

    def learn_step(self, tokens: float, pairs: float, seconds: float) -> None:
        if self._prefill.known and seconds > 0.0:
            predicted = self._prefill.of(tokens, pairs)
            self._count("prefill_predictions")
            self._count("prefill_error_sum", abs(seconds - predicted) / seconds)
        self._prefill.learn(tokens, pairs, seconds)

    def measured(self, request_id: str, seconds: float) -> None:
        """A rank has completed its part of a load. The slowest is waited for."""
        self._measured[request_id] = max(seconds, self._measured.get(request_id, 0.0))

    def complete(self, request_id: str) -> str | None:
        """A load is complete on all ranks. The tier whose rate it has told."""
        parts = self._pending.pop(request_id, None)
        seconds = self._measured.pop(request_id, 0.0)
        if not parts or seconds <= 0.0:
            return None
        # One after the other, as predicted; what is measured of several tiers is the slowest.
        *faster, last = parts
        before = sum(part.predicted or 0.0 for part in faster)
        if last.predicted is not None:
            self._count("load_predictions")
            self._count("load_error_sum", abs(seconds - before - last.predicted) / seconds)
        self._tiers[last.tier].learn(last.queued + last.size, max(seconds - before, 0.1 * seconds))
        return last.tier

    def failed(self, request_id: str, status: str) -> bool:
        """A load failed, or was given up. True if it only missed the deadline of its prediction."""
        parts = self._pending.pop(request_id, None)
        self._measured.pop(request_id, None)
        if self._always or parts is None or status != "timeout":
            return False
        for part in parts:
            self._tiers[part.tier].forget()
        self._count("policy_late")
        return True

    def learn_probe(self, size: int, seconds: float) -> None:
        self._tiers["gds"].learn(size, seconds)

    def take_counts(self) -> dict[str, float]:
        counts, self._counts = self._counts, {}
        return counts

    # -- parts -----------------------------------------------------------------------------------

    def _load_seconds(self, tier: str, size: int) -> float | None:
        return self._tiers[tier].seconds(size + self._queued(tier))

    def _queued(self, tier: str) -> int:
        """Bytes of the loads under way."""
        return sum(
            part.size for parts in self._pending.values() for part in parts if part.tier == tier
        )

    def _count(self, name: str, amount: float = 1.0) -> None:
        self._counts[name] = self._counts.get(name, 0.0) + amount
