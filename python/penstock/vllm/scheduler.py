"""The scheduler half: decides what is loaded and saved. Called by the engine's loop only.

It never waits for a drive: a lookup is waited for at most 1 ms a step, then the answer is "ask
again", and after a deadline "nothing". Matching has no side effects; a load begins when vLLM has
allocated its blocks.

The fence. Nothing is ever held for a save: blocks may be freed while the worker still has to read
them. A row can only be overwritten after it was allocated again, and every allocation passes
through here, so the ids of new blocks go to the workers, which let go of those rows before the
step begins. Preemption, sliding windows, ends and aborts are all covered by that one rule.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vllm.logger import init_logger

from penstock import _core
from penstock.probe import Probe
from penstock.spaces import Epochs, Space, Spaces
from penstock.vllm import namespace
from penstock.vllm.chooser import LoadChooser
from penstock.vllm.in_step import InStep
from penstock.vllm.inflight import InFlight
from penstock.vllm.layout import NULL_BLOCK, Plan
from penstock.vllm.messages import (
    Handshake,
    Load,
    LoadFailure,
    Save,
    StepMetadata,
    WorkerReport,
    fill_load,
    fill_save,
)
from penstock.vllm.stats import EngineSamples
from penstock.vllm.tracked import Tracked

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = init_logger("vllm.penstock")  # vLLM configures loggers under its own name

_LOOKUP_WAIT_US = 1000  # spent once a step, on the first answer that is not there
_LOOKUP_DEADLINE = 0.1  # seconds; later, the answer is "nothing"
_ANSWER_LIFE = 5.0  # seconds that an answer is believed while a request waits to be admitted
_FRESH = 0.2  # seconds that it is good for a load that must not fail
_PAUSE = 30.0  # seconds without loads after a drive was stuck or failed
_PAUSING = ("timeout", "I/O error")


class SchedulerHalf:
    def __init__(self, vllm_config: Any, config: Any, plan: Plan, shards: int) -> None:
        self._vllm_config = vllm_config
        self._config = config
        self._plan = plan
        self._shards = shards
        self._engine = _core.Engine.open(config, [])
        self._inflight = InFlight(int(config.max_load_gb_in_flight * 1e9), config.load_deadline_s)
        self._chooser = LoadChooser(config, plan)
        self._in_step = InStep(config, plan, vllm_config.scheduler_config.async_scheduling)
        self._probe = Probe(self._engine.probe_drives) if config.load_policy == "auto" else None
        self._samples = EngineSamples(self._engine, levels=False) if config.enable_metrics else None
        self._requests: dict[str, Tracked] = {}
        self._computed: dict[str, int] = {}  # tokens, when vLLM last asked for more; of any request
        self._waiting: set[str] = set()  # requests that have neither been scheduled nor loaded
        self._needs = [(i, shards, g.window_chunks) for i, g in enumerate(plan.groups)]
        self._handshake: Handshake | None = None
        self._model: str | None = None
        self._epochs = Epochs(config.max_age_s)
        self._spaces: Spaces | None = None  # from the first request on that has a block hash
        self._reset = "0"
        self._media_are_hashed = _media_are_hashed(vllm_config)
        self._idle = False  # for good; the reason has been logged
        self._paused_until = 0.0
        self._waited = False  # in this step
        self._step = StepMetadata()

    # -- start -----------------------------------------------------------------------------------

    def set_handshake(self, by_rank: dict[tuple[int, int], Handshake]) -> None:
        layouts = {handshake.layout for handshake in by_rank.values()}
        if len(layouts) != 1:
            self._go_idle("the ranks have different KV layouts")
            return
        self._handshake = next(iter(by_rank.values()))
        self._chooser.set_copy_bytes(self._handshake.copy_bytes)
        try:
            self._model = namespace.model_digest(self._vllm_config.model_config)
        except (namespace.NoNamespace, OSError) as error:
            self._go_idle(str(error))

    def reset_cache(self) -> bool:
        """What was saved before is not found again by this engine."""
        self._reset = uuid.uuid4().hex
        self._spaces = None
        for state in self._requests.values():
            state.runs, state.lookups, state.space = [], [], None
            state.may_save = False
        return True

    def shutdown(self) -> None:
        if self._probe is not None:
            self._probe.stop()
        self._engine.close()

    def _go_idle(self, reason: str) -> None:
        if not self._idle:
            logger.warning("penstock: nothing is saved or restored: %s", reason)
        self._idle = True

    def _open_spaces(self, block_hash: bytes) -> list[Space]:
        """Where copies are that are young enough, the newest first; the first is where new ones go.
        Empty: nothing can be loaded or saved now. The first request's block hash completes what
        the namespaces are named by."""
        if self._spaces is None and not self._may_open():
            return []
        try:
            if self._spaces is None:
                self._spaces = Spaces(self._describe(block_hash))
            return [space for epoch in self._epochs.valid() if (space := self._space(epoch))]
        except namespace.NoNamespace as error:
            self._go_idle(str(error))
        except _core.PenstockError as error:
            logger.warning("penstock: the store does not answer: %s", error)
            self._pause()
        return []

    def _may_open(self) -> bool:
        if self._idle or time.monotonic() < self._paused_until:
            return False
        if self._handshake is None or self._model is None:
            self._go_idle("the worker has not described its KV memory")
            return False
        return True

    def _space(self, epoch: int) -> Space | None:
        assert self._spaces is not None
        space = self._spaces.known(epoch)
        if space is None and self._may_open():
            space = self._spaces.space(self._engine, epoch)
            self._step.namespaces[space.digest] = space.text
        return space

    def _describe(self, block_hash: bytes) -> Callable[[int], dict[str, Any]]:
        """NoNamespace: KV of this engine cannot be named."""
        assert self._handshake is not None and self._model is not None
        description = namespace.describe(
            self._vllm_config,
            self._model,
            self._handshake.layout,
            self._plan.chunk,
            namespace.hash_identity(self._vllm_config, block_hash),
            self._reset,
        )
        if not self._config.max_age_s:
            return lambda epoch: description
        return lambda epoch: {**description, "age": epoch}

    # -- matching --------------------------------------------------------------------------------

    def on_new_request(self, request: Request) -> None:
        # A LoRA adapter's name is in the hash, its weights are not. A resumable session may
        # replace tokens that are computed already.
        if self._idle or request.lora_request is not None or request.resumable:
            return
        if request.mm_features and not self._media_are_hashed:
            logger.warning_once(
                "penstock: requests with media are neither saved nor restored: with neither prefix "
                "caching nor its processor's cache (mm_processor_cache_gb) vLLM does not hash them"
            )
            return
        state = Tracked(request, may_load=not request.skip_reading_prefix_cache)
        self._requests[request.request_id] = state
        self._waiting.add(request.request_id)
        if state.may_load:
            self._ask(state)

    def matched(self, request: Request, computed: int) -> tuple[int | None, bool]:
        """Tokens beyond `computed` that can be loaded; None: ask again."""
        state = self._requests.get(request.request_id)
        self._computed[request.request_id] = computed
        if state is None or not state.may_load or time.monotonic() < self._paused_until:
            return 0, False
        state.choice = None
        runs = self._runs(state)
        if runs is None:
            return None, False
        longest = self._longest_hit(request)
        runs = [(tier, min(end, longest)) for tier, end in runs]
        if not runs or runs[-1][1] * self._plan.chunk <= computed:
            return 0, False
        others = len(self._waiting) - (request.request_id in self._waiting)
        state.choice = self._chooser.choose(computed, request.num_tokens, runs, others)
        tokens = state.choice.end * self._plan.chunk - computed
        if tokens <= 0:
            return 0, False
        first = computed // self._plan.chunk
        if self._inflight.is_loading(state.chain[first]):
            return None, False
        if not self._inflight.has_room(self._load_bytes(computed, computed + tokens)):
            return None, False
        is_fresh = time.monotonic() - state.asked_at < _FRESH
        state.is_async = self._config.use_async and not (
            is_fresh
            and self._in_step.suits(
                request.request_id, state.digest, state.choice.end, runs, state.on_drives
            )
        )
        return tokens, state.is_async

    def _longest_hit(self, request: Request) -> int:
        return (request.num_tokens - 1) // self._plan.chunk  # one token is always computed

    def _load_bytes(self, begin: int, end: int) -> int:
        assert self._handshake is not None
        chunks = -(-end // self._plan.chunk) - begin // self._plan.chunk
        return chunks * sum(self._handshake.copy_bytes) * self._shards

    def _ask(self, state: Tracked) -> None:
        chain = state.extend_chain(self._plan)[: self._longest_hit(state.request)]
        state.asked_at = time.monotonic()
        state.asked_preemptions = state.request.num_preemptions
        state.lookups = []
        spaces = self._open_spaces(chain[0]) if chain else []
        state.runs = None if spaces else []
        keys = b"".join(chain)
        for space in spaces:
            state.lookups.append((space, self._engine.lookup(space.id, keys, self._needs)))

    def _runs(self, state: Tracked) -> list[tuple[str, int]] | None:
        age = time.monotonic() - state.asked_at
        preempted = state.asked_preemptions != state.request.num_preemptions
        too_old = state.space is not None and state.space.epoch not in self._epochs.valid()
        if preempted or (state.runs is not None and (age > _ANSWER_LIFE or too_old)):
            self._ask(state)
        if state.runs is None:
            self._take_answers(state)
            if state.runs is None and time.monotonic() - state.asked_at > _LOOKUP_DEADLINE:
                state.runs = []
            if state.runs is not None:
                state.lookups = []
                state.saved = state.found
        return state.runs

    def _take_answers(self, state: Tracked) -> None:
        """The longest prefix counts, and of two as long the younger one."""
        wait_us, self._waited = 0 if self._waited else _LOOKUP_WAIT_US, True
        if state.lookups[-1][1].wait(wait_us) is None:
            return  # they are answered in order
        ends = [lookup.wait(0) or 0 for _, lookup in state.lookups]
        best = ends.index(max(ends))
        state.space, lookup = state.lookups[best]
        state.runs = lookup.runs()
        state.on_drives = lookup.held_by("gds")

    # -- steps -----------------------------------------------------------------------------------

    def allocated(self, request: Request, tables: Sequence[Sequence[int]], tokens: int) -> None:
        """vLLM has allocated blocks, of which `tokens` that were offered are to be loaded."""
        if tokens <= 0:
            # Another connector beside this one may load into them, before they are computed.
            computed = self._computed.get(request.request_id, 0)
            self._note_allocated(tables, max(computed, request.num_computed_tokens))
            return
        state = self._requests.get(request.request_id)
        if state is None or state.choice is None:
            return
        choice, state.choice = state.choice, None
        begin = self._computed[request.request_id]
        self._waiting.discard(request.request_id)
        must_succeed = self._in_step.overlapping and not state.is_async
        load = Load(
            request.request_id,
            namespace=state.digest,
            begin=begin,
            end=begin + tokens,
            is_async=state.is_async,
            deadline=0.0 if must_succeed else self._chooser.deadline(choice),
        )
        self._chooser.started(request.request_id, load.begin, choice, state.runs or ())
        fill_load(load, self._plan, state.chain, tables)
        self._note_allocated(tables, load.begin)
        self._step.loads.append(load)
        chunks = state.chain[load.begin // self._plan.chunk : -(-load.end // self._plan.chunk)]
        self._in_step.busy(request.request_id)
        self._in_step.start(request.request_id, load.namespace, within=not load.is_async)
        if load.is_async:  # else it is over before anybody asks again
            size = self._load_bytes(load.begin, load.end)
            self._inflight.start(request.request_id, tuple(chunks), size)

    def build_step(self, output: SchedulerOutput) -> StepMetadata:
        """The worker's part of a step. Begins a new one."""
        for new in output.scheduled_new_reqs:
            self._in_step.busy(new.req_id)
            self._note_allocated(new.block_ids, new.num_computed_tokens)
            self._keep_tables(new.req_id, new.block_ids, fresh=True)
            self._scheduled(output, new.req_id, new.num_computed_tokens)
        cached = output.scheduled_cached_reqs
        for i, request_id in enumerate(cached.req_ids):
            computed, blocks = cached.num_computed_tokens[i], cached.new_block_ids[i]
            resumed = request_id in cached.resumed_req_ids
            if blocks is not None:
                self._note_allocated(blocks, computed if resumed else 0)
                self._keep_tables(request_id, blocks, fresh=resumed)
            self._scheduled(output, request_id, computed)
        step, self._step = self._step, StepMetadata()
        if self._probe is not None and (read := self._probe.take()) is not None:
            self._chooser.learn_probe(*read)
        step.prefill = self._chooser.take_step()
        if any(not load.is_async for load in step.loads):
            step.prefill = None  # the step waits for them
        step.counts = self._chooser.take_counts()
        if self._samples is not None:
            step.counts.update(self._samples.take())
        self._waited = False
        return step

    def _note_allocated(self, tables: Sequence[Sequence[int]], computed: int) -> None:
        """Blocks from position `computed` on may be written now; those before it are hits."""
        for group, table in zip(self._plan.groups, tables, strict=True):
            first = computed // group.block_size
            self._step.allocated.extend(b for b in table[first:] if b != NULL_BLOCK)

    def _keep_tables(self, request_id: str, tables: Sequence[Sequence[int]], fresh: bool) -> None:
        state = self._requests.get(request_id)
        if state is None:
            return
        if fresh or not state.tables:
            state.tables = tuple(list(table) for table in tables)
        else:
            for own, new in zip(state.tables, tables, strict=True):
                own.extend(new)

    def _scheduled(self, output: SchedulerOutput, request_id: str, computed: int) -> None:
        """A request's part in the step: what it computes, what can be saved after it."""
        tokens = output.num_scheduled_tokens[request_id]
        self._chooser.scheduled(computed, tokens)
        self._waiting.discard(request_id)
        state = self._requests.get(request_id)
        if state is None:
            return
        if state.choice is not None:
            self._chooser.computed(state.choice)
            state.choice = None
        self._step.samples |= computed + tokens >= state.request.num_tokens
        if state.may_save:
            self._save(output, state, computed + tokens)

    def _save(self, output: SchedulerOutput, state: Tracked, until: int) -> None:
        """Hands over the chunks that are complete once this step has run."""
        request = state.request
        # Drafts and placeholders lie beyond num_tokens; a chunk is complete without them only.
        known = min(until, request.num_tokens)
        if not self._config.save_decode_cache:
            known = min(known, request.num_prompt_tokens)
        chain = state.extend_chain(self._plan)
        ready = min(known // self._plan.chunk, len(chain))
        if ready <= state.saved:
            return
        if state.space is None:
            state.space = next(iter(self._open_spaces(chain[0])), None)
        if state.space is None:
            return
        tables = self._tables(output, state)
        first_key = int.from_bytes(chain[0][:8], "big")
        save = Save(request.request_id, state.space.digest, first_key=first_key)
        for chunk in range(state.saved, ready):
            if not fill_save(save, self._plan, chain, tables, chunk):
                state.may_save = False  # what follows would stand without its parent
                break
        state.saved = ready
        if save.groups:
            self._step.saves.append(save)

    def _tables(self, output: SchedulerOutput, state: Tracked) -> Sequence[Sequence[int]]:
        block_state = getattr(output, "kv_connector_block_state", None)
        tables = block_state and block_state.get_block_ids(state.request.request_id)
        return tables if tables is not None else state.tables

    # -- ends ------------------------------------------------------------------------------------

    def take_output(self, output: KVConnectorOutput) -> None:
        """Comes before the next lookup, so that a failed load is not claimed again."""
        report = output.kv_connector_worker_meta
        if isinstance(report, WorkerReport):
            self._take_report(report)
        for request_id in output.finished_recving or ():
            failure = self._inflight.end(request_id)
            if failure is not None:
                self._load_failed(request_id, failure)
            else:
                self._load_complete(request_id)

    def _take_report(self, report: WorkerReport) -> None:
        for i in range(0, len(report.steps), 3):
            self._chooser.learn_step(*report.steps[i : i + 3])
        for request_id, seconds in report.loads.items():
            self._chooser.measured(request_id, seconds)
            if self._in_step.is_loading(request_id) and request_id not in report.failures:
                self._load_complete(request_id)
        for request_id, failure in report.failures.items():
            if self._in_step.is_loading(request_id):
                self._load_failed(request_id, failure)
            else:  # the other ranks may still be loading
                self._inflight.fail(request_id, failure)

    def finished(self, request: Request) -> None:
        """Nothing is held: see the fence. A load that still runs is ended by its worker."""
        self._requests.pop(request.request_id, None)
        self._computed.pop(request.request_id, None)
        self._waiting.discard(request.request_id)
        self._in_step.finished(request.request_id)

    def _load_complete(self, request_id: str) -> None:
        if self._chooser.complete(request_id) == "gds" and self._probe is not None:
            self._probe.loaded()
        self._in_step.end(request_id, good=True)

    def _load_failed(self, request_id: str, failure: LoadFailure) -> None:
        self._in_step.end(request_id, good=False)
        state = self._requests.get(request_id)
        if state is not None:
            # vLLM asks again when no block was left; a claim repeated would never end.
            state.may_load = state.may_save = False
            self._forget(state, failure)
        late = self._chooser.failed(request_id, failure.status)
        if failure.status in _PAUSING and not late:
            self._pause()

    def _forget(self, failed: Tracked, failure: LoadFailure) -> None:
        """Cuts the answers of all requests that have the failed chunk in their chain."""
        key = failed.chain[failure.chunk]
        for state in self._requests.values():
            if state.found > failure.chunk and state.chain[failure.chunk] == key:
                state.cut(failure.chunk)

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE


def _media_are_hashed(vllm_config: Any) -> bool:
    """Or else named by a counter of the process, which the next process begins anew."""
    multimodal = vllm_config.model_config.multimodal_config
    has_cache = multimodal is None or multimodal.mm_processor_cache_gb > 0
    return bool(vllm_config.cache_config.enable_prefix_caching or has_cache)
