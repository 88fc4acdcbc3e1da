"""An engine without a scheduler and without blocks: turns and memory as sums of tokens.

For fleets of a thousand engines. Iterations in which something is prefilled are gone through one by
one, those that only decode in one leap; what an iteration takes is what the profile says.
docs/explanation/simulator.md says what else is modelled, and how far it is from the real scheduler.
"""

import heapq
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from caesura.lab.sim.duration_scores import DurationScore
from caesura.lab.sim.fleet import NEVER
from caesura.lab.sim.fluid_experience import Experience, Stage, first_stage, later_stage
from caesura.lab.sim.fluid_memory import FluidMemory, Resting
from caesura.policy.profile import DeviceProfile, attention_pairs

FLUID_POLICIES = ("stock", "min-waste")
"""What a fluid engine can stand for."""


@dataclass(frozen=True, slots=True)
class FluidSettings:
    """A fluid engine.

    Attributes:
        profile: what an iteration takes.
        kv_tokens: device memory.
        host_tokens: host memory.
        link_bytes_per_second: between them, one way.
        max_num_seqs, max_num_batched_tokens: as in vLLM.
        pauses: whether it serves by expected work and holds contexts by how long their pauses
            last, as `min-waste`; else first come, first served, and least recently used.
    """

    profile: DeviceProfile
    kv_tokens: int
    host_tokens: int
    link_bytes_per_second: float
    max_num_seqs: int
    max_num_batched_tokens: int
    pauses: bool


_STARVATION_SECONDS = 10.0
"""A turn that has waited for so long may have the memory of any context that rests."""


@dataclass(slots=True)
class _Session:
    """A session in place.

    Attributes:
        context_tokens: at the end of its last turn.
        arrived: when it came to this engine.
        output_tokens: that it has generated, and will have at the end of a turn that runs.
        stages: tokens that it had generated when it came to each.
    """

    context_tokens: int
    arrived: float
    output_tokens: int = 0
    paused_seconds: float = 0.0
    stages: dict[Stage, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    """A turn that waits or runs.

    Attributes:
        context_tokens: that it has, prompt and output.
        outputs_left: tokens that it still has to generate.
        left_tokens: to be computed before its next token comes.
        unreported: tokens that it will have generated and not put out when it is over.
        began: iteration after which it began to decode.
        came: when it was submitted.
    """

    request_id: str
    session: str
    endpoint: str | None
    context_tokens: int
    outputs_left: int
    left_tokens: int = 0
    unreported: int = 0
    began: int = 0
    came: float = 0.0


class FluidEngine:
    """See `caesura.lab.sim.fleet.VirtualEngine`.

    Args:
        settings: what it is.
        experience: of sessions; the engines of a fleet share it.
    """

    def __init__(self, settings: FluidSettings, experience: Experience) -> None:
        self.now_seconds = 0.0
        self.steps = 0
        self.scheduled_tokens = 0
        self.loaded_tokens = 0
        self.pause_ends: dict[str, float] = {}
        self._settings = settings
        self._experience = experience
        self._memory = FluidMemory(
            settings.kv_tokens, settings.host_tokens, experience if settings.pauses else None
        )
        self._held_tokens = 0
        self._pauses = 0
        self._sessions: dict[str, _Session] = {}  # in place, by request
        # Those whose contexts are all there, or that were preempted, and the others by rank.
        self._holders: deque[_Turn] = deque()
        self._waiting: list[tuple[float, int, _Turn]] = []
        self._waiting_tokens = 0
        self._loading: list[tuple[float, int, _Turn]] = []
        self._prefilling: deque[_Turn] = deque()
        self._prefill_tokens = 0
        self._decoding: dict[str, _Turn] = {}  # the one that began last is preempted first
        self._decoded_context = 0  # tokens that decoding all of them once reads
        self._endings: list[tuple[int, int, _Turn]] = []
        self._order = 0
        self._link_free_seconds = 0.0
        self._outputs: list[tuple[str, int, bool]] = []
        self._blocked = False  # the first of those that wait does not fit

    # Requests

    def submit(
        self,
        request_id: str,
        session: str,
        num_tokens: int,
        max_tokens: int,
        *,
        resumable: bool,
        endpoint: str | None = None,
        computed_before: int = 0,
    ) -> None:
        """See `VirtualEngine`."""
        turn = _Turn(request_id, session, endpoint, num_tokens, max_tokens, unreported=max_tokens)
        turn.came = self.now_seconds
        rank = 0.0
        if resumable:
            rank = self._rank(turn)
        self._blocked = False
        rested = self._memory.left_of(session)
        if resumable and rested and rested >= turn.context_tokens - num_tokens - 1:
            self._holders.append(turn)
            return
        self._order += 1
        self._waiting_tokens += turn.context_tokens
        heapq.heappush(self._waiting, (rank, self._order, turn))

    def _rank(self, turn: _Turn) -> float:
        """A session's place: its arrival and what it will probably still take."""
        session = self._sessions.get(turn.request_id)
        if session is None:
            session = self._sessions[turn.request_id] = _Session(0, self.now_seconds)
            stage = first_stage(turn.context_tokens)
        else:
            endpoint, seconds = self._memory.paused(turn.session, self.now_seconds)
            session.paused_seconds += seconds
            self._experience.paused(endpoint, seconds)
            self._pauses += 1
            stage = later_stage(endpoint, len(session.stages))
        turn.context_tokens += session.context_tokens
        session.stages.setdefault(stage, session.output_tokens)
        session.output_tokens += turn.outputs_left
        work = self._experience.remaining_tokens(stage)
        return session.arrived + session.paused_seconds + work

    def close(self, request_id: str) -> None:
        """See `VirtualEngine`."""
        session = self._sessions.pop(request_id)
        self._experience.ended(session.stages, session.output_tokens)
        self._memory.take(request_id.partition("/")[0])
        self._blocked = False

    # Time

    def next_seconds(self) -> float:
        """See `VirtualEngine`."""
        waiting = self._holders or self._waiting
        if self._outputs or self._prefilling or (waiting and not self._blocked):
            return self.now_seconds
        loaded = self._loading[0][0] if self._loading else NEVER
        if not self._decoding:
            return max(self.now_seconds, loaded)
        iterations = self._endings[0][0] - self.steps
        return max(self.now_seconds, min(loaded, self.now_seconds + self._seconds_of(iterations)))

    def reach(self, seconds: float) -> None:
        """See `VirtualEngine`."""
        while self.now_seconds < seconds and not self._outputs and self._is_busy():
            self._advance(seconds)
        if not self._is_busy():
            self.now_seconds = max(self.now_seconds, seconds)

    def step(self, not_after: float = NEVER) -> list[tuple[str, int, bool]]:
        """What comes out next; nothing if it takes more than one iteration of prefill."""
        if not self._outputs:
            self._advance(not_after)
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def stored_tokens(self) -> int:
        """Tokens copied to host memory so far."""
        return self._memory.stored_tokens

    def _is_busy(self) -> bool:
        return bool(
            self._decoding or self._prefilling or self._loading or self._holders or self._waiting
        )

    def _advance(self, until: float) -> None:
        """One iteration with a prefill, or as many without as nothing else happens in."""
        while self._loading and self._loading[0][0] <= self.now_seconds:
            self._prefill(heapq.heappop(self._loading)[2])
        if not self._preempt():
            self._admit()
        if self._prefilling:
            self._iterate()
        elif self._decoding:
            self._leap(until)
        elif self._loading:
            self.now_seconds = min(until, self._loading[0][0])

    def _iterate(self) -> None:
        """One iteration: every turn decodes a token, and the first of those that prefill go on."""
        decoding = len(self._decoding)
        budget = max(1, self._settings.max_num_batched_tokens - decoding)
        query = context = sequences = pairs = 0
        done: list[_Turn] = []
        while self._prefilling and budget:
            turn = self._prefilling[0]
            tokens = min(budget, turn.left_tokens)
            computed = turn.context_tokens - turn.left_tokens
            pairs += attention_pairs(tokens, computed)
            context += computed + tokens
            query += tokens
            sequences += 1
            budget -= tokens
            turn.left_tokens -= tokens
            if turn.left_tokens:
                break
            done.append(self._prefilling.popleft())
        self._prefill_tokens -= query
        self.now_seconds += self._settings.profile.iteration_seconds(
            decoding + query, self._decoded_context + context, decoding + sequences, pairs
        )
        self._decoded(1)
        self.scheduled_tokens += query
        for turn in done:
            self._begin(turn)

    def _leap(self, until: float) -> None:
        """Decode until a turn ends, a context is loaded, memory is short, or time is up."""
        decoding = len(self._decoding)
        iterations = self._endings[0][0] - self.steps
        for moment in (until, self._loading[0][0] if self._loading else NEVER):
            if moment < NEVER:
                iterations = min(iterations, self._iterations_to(moment))
        iterations = min(iterations, max(1, self._memory.free_tokens // decoding))
        self.now_seconds += self._seconds_of(iterations)
        self._decoded(iterations)

    def _seconds_of(self, iterations: int) -> float:
        """What iterations that only decode take; each reads one more token per turn."""
        profile, decoding = self._settings.profile, len(self._decoding)
        first = profile.iteration_seconds(decoding, self._decoded_context, decoding)
        growth = profile.seconds_per_context_token * decoding
        return iterations * first + growth * iterations * (iterations - 1) / 2

    def _iterations_to(self, moment: float) -> int:
        """The fewest iterations after which this moment has come; 1 at least."""
        seconds = moment - self.now_seconds
        first = self._seconds_of(1)
        growth = self._settings.profile.seconds_per_context_token * len(self._decoding)
        linear = first - growth / 2
        if growth:
            root = math.sqrt(linear * linear + 2 * growth * max(0.0, seconds))
            iterations = (root - linear) / growth
        else:
            iterations = seconds / first
        return max(1, math.ceil(iterations - 1e-9))

    def _decoded(self, iterations: int) -> None:
        tokens = iterations * len(self._decoding)
        self.steps += iterations
        self.scheduled_tokens += tokens
        self._decoded_context += tokens
        self._memory.active_tokens += tokens
        while self._endings and self._endings[0][0] <= self.steps:
            _, _, turn = heapq.heappop(self._endings)
            if self._decoding.get(turn.request_id) is turn:
                self._stop_decoding(turn)
                self._finish(turn)
        while (
            self._endings
            and self._decoding.get(self._endings[0][2].request_id) is not (self._endings[0][2])
        ):
            heapq.heappop(self._endings)

    # Turns

    def _admit(self) -> None:
        """Turns that wait get memory, as long as the next iteration has room for their tokens."""
        running = len(self._decoding) + len(self._prefilling) + len(self._loading)
        while running < self._settings.max_num_seqs and (
            self._prefill_tokens + len(self._decoding) < self._settings.max_num_batched_tokens
        ):
            if self._holders:
                if not self._start(self._holders[0], 0.0):
                    break
                self._holders.popleft()
            elif self._waiting:
                turn = self._waiting[0][2]
                if not self._start(turn, self._shortest_pause(turn)):
                    break
                heapq.heappop(self._waiting)
                self._waiting_tokens -= turn.context_tokens
            else:
                return
            running += 1
        self._blocked = True

    def _shortest_pause(self, turn: _Turn) -> float:
        """Contexts whose pauses last less are worth more than what waits (`min-waste`)."""
        running, waiting = len(self._decoding), len(self._waiting)
        starved = self.now_seconds - turn.came >= _STARVATION_SECONDS
        if not self._settings.pauses or not running or starved:
            return 0.0
        per_token = self._settings.profile.seconds_per_query_token
        return per_token * self._waiting_tokens * (running + waiting + 1) / waiting

    def _start(self, turn: _Turn, shortest_pause: float) -> bool:
        """Take the memory for a turn's context; False if it does not fit."""
        memory = self._memory
        missing = turn.context_tokens - memory.left_of(turn.session)
        growth = len(self._decoding) + len(self._prefilling) + len(self._loading)
        if not memory.make_room(missing + growth, turn.session, shortest_pause):
            return False
        rested = memory.take(turn.session)
        memory.active_tokens += turn.context_tokens
        # All but the last token of a context was computed; what is generated next needs one.
        device = loaded = 0
        if rested is not None:
            device = min(rested.device_tokens, turn.context_tokens - 1)
            loaded = min(rested.host_tokens, turn.context_tokens - 1 - device)
            self._held_tokens += device
        turn.left_tokens = turn.context_tokens - device - loaded
        if not loaded:
            self._prefill(turn)
            return True
        self.loaded_tokens += loaded
        size = loaded * self._settings.profile.kv_bytes_per_token
        starts = max(self.now_seconds, self._link_free_seconds)
        self._link_free_seconds = starts + size / self._settings.link_bytes_per_second
        self._order += 1
        heapq.heappush(self._loading, (self._link_free_seconds, self._order, turn))
        return True

    def _prefill(self, turn: _Turn) -> None:
        self._prefilling.append(turn)
        self._prefill_tokens += turn.left_tokens

    def _begin(self, turn: _Turn) -> None:
        """Its context is computed, and its next token is there."""
        self._blocked = False
        turn.context_tokens += 1
        turn.outputs_left -= 1
        self._memory.active_tokens += 1
        if not turn.outputs_left:
            self._finish(turn)
            return
        # Nobody has had a token of it before, unless it was preempted.
        if turn.outputs_left == turn.unreported - 1:
            turn.unreported -= 1
            self._outputs.append((turn.request_id, 1, False))
        turn.began = self.steps
        self._decoding[turn.request_id] = turn
        self._decoded_context += turn.context_tokens
        self._order += 1
        heapq.heappush(self._endings, (self.steps + turn.outputs_left, self._order, turn))

    def _stop_decoding(self, turn: _Turn) -> None:
        del self._decoding[turn.request_id]
        generated = self.steps - turn.began
        turn.context_tokens += generated
        turn.outputs_left -= generated
        self._decoded_context -= turn.context_tokens

    def _finish(self, turn: _Turn) -> None:
        self._outputs.append((turn.request_id, turn.unreported, True))
        session = self._sessions.get(turn.request_id)
        if session is not None:
            session.context_tokens = turn.context_tokens
        self._rest(turn, turn.endpoint)

    def _rest(self, turn: _Turn, endpoint: str | None) -> None:
        self._memory.active_tokens -= turn.context_tokens
        # The last token was sampled, and not computed.
        context = Resting(turn.session, endpoint, self.now_seconds, turn.context_tokens - 1)
        self._memory.rest(context)
        self._blocked = False

    def _preempt(self) -> bool:
        """Turns give way until the others have room for a token more; whether any did."""
        preempted = False
        while self._decoding and not self._memory.make_room(len(self._decoding)):
            turn = self._decoding[next(reversed(self._decoding))]
            self._stop_decoding(turn)
            self._rest(turn, None)
            self._holders.appendleft(turn)
            preempted = True
        return preempted

    # Counts

    def counts(self) -> Mapping[str, float]:
        """As of `HeadlessEngine`, as far as there is anything to count."""
        return {
            "held_tokens": self._held_tokens,
            "copied_tokens": self.stored_tokens,
            "loaded_tokens": self.loaded_tokens,
            "pauses": self._pauses,
        }

    def duration_rows(self) -> list[DurationScore]:
        """It predicts nothing."""
        return []

    def write_trace(self) -> None:
        """There is none."""
