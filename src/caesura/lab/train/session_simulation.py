"""A session in simulated time: tokens are offered, results and messages arrive, the runtime acts.

The decisions are those of the real runtime, `caesura.cml.modes`, and so is the monitor. It does
not matter who writes the tokens: the oracle, to make training data, or a model under evaluation.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from caesura.cml import (
    Call,
    EndOfStream,
    Event,
    FireAndForget,
    GoOn,
    Inject,
    Interrupt,
    Mode,
    Monitor,
    MonitorSettings,
    Pause,
    Point,
    ProtocolError,
    Situation,
    Text,
    Trap,
    next_step,
)
from caesura.cml.modes import Step
from caesura.lab.train.session_codec import SessionCodec

Execute = Callable[[Call], tuple[str, float]]
"""What a call gives, and after how many seconds."""


@dataclass(frozen=True, slots=True)
class SimulatedArrival:
    """Something that will be injected.

    Attributes:
        seconds: when it arrives.
        interrupt: what it says.
    """

    seconds: float
    interrupt: Interrupt


@dataclass(slots=True)
class _Clock:
    now: float = 0.0
    arrivals: list[tuple[float, int, Interrupt]] = field(default_factory=list)
    counter: "itertools.count[int]" = field(default_factory=itertools.count)

    def schedule(self, seconds: float, interrupt: Interrupt) -> None:
        heapq.heappush(self.arrivals, (seconds, next(self.counter), interrupt))


class Simulation:
    """One session.

    Args:
        prompt: tokens before the model's first.
        mode: what happens at a call.
        codec: of the model.
        execute: runs the calls.
        token_seconds: time of the next token.
        messages: what the user sends, and when. Those that are late come just before the end.
        used_ids: ids of the conversation's calls so far.

    Attributes:
        tokens: the prompt, and what was written and injected since.
        written: for each token, whether the model wrote it.
        injected: all interrupts so far.
        calls: all calls so far.
        text: what the model wrote outside frames.
        errors: mistakes of the model.
        is_over: the session ended.
        seconds: simulated time.
    """

    def __init__(
        self,
        prompt: list[int],
        mode: Mode,
        codec: SessionCodec,
        execute: Execute,
        token_seconds: Callable[[], float],
        messages: tuple[SimulatedArrival, ...] = (),
        used_ids: Iterable[str] = (),
    ) -> None:
        self.tokens = list(prompt)
        self.written = [False] * len(prompt)
        self.injected: list[Interrupt] = []
        self.calls: list[Call] = []
        self.text = ""
        self.errors: list[str] = []
        self.is_over = False
        self._mode = mode
        self._codec = codec
        self._execute = execute
        self._token_seconds = token_seconds
        self._monitor = Monitor(MonitorSettings(), codec.symbols, codec.decoder(), used_ids)
        self._clock = _Clock()
        for message in messages:
            self._clock.schedule(message.seconds, message.interrupt)
        self._point = Point.WRITING
        self._pending: set[str] = set()
        self._bundle: list[Call] = []
        self._queued: list[Interrupt] = []
        self._was_paused = False

    @property
    def seconds(self) -> float:
        """Simulated time so far."""
        return self._clock.now

    def offer(self, token: int) -> bool:
        """The model sampled this token: keep it, and do what the runtime does then.

        Returns:
            Whether it was kept. If not, an interrupt took its place.
        """
        self._clock.now += self._token_seconds()
        self._arrive()
        if isinstance(self._step(), Inject) and token in self._codec.safe_tokens:
            self._inject()
            return False
        if token == self._codec.eos:
            self._observe(self._monitor.end_of_stream())
        else:
            self.tokens.append(token)
            self.written.append(True)
            self._observe(self._monitor.feed([token]))
        return self._settle(token)

    def _settle(self, token: int) -> bool:
        """Wait and inject as the mode says, until the model is to write again."""
        while True:
            step = self._step()
            if isinstance(step, Pause):
                self._dispatch_bundle()
                if not self._wait():
                    self.errors.append("waits for nothing")
                    self.is_over = True
                    return True
            elif isinstance(step, Inject):
                if self._is_under_way(token):
                    return True
                self._inject()
                return token != self._codec.eos
            elif isinstance(step, GoOn):
                return True
            elif self._clock.arrivals:
                self._wait()
            else:
                self.tokens.append(self._codec.eos)
                self.written.append(True)
                self.is_over = True
                return True

    def _is_under_way(self, token: int) -> bool:
        """Whether the model is writing: what is queued waits for the next safe token."""
        return self._point in (Point.WRITING, Point.CALLED) and not self._was_paused

    def _step(self) -> Step:
        situation = Situation(
            self._point,
            frozenset(self._pending),
            bool(self._queued),
            self._monitor.in_critical_section,
        )
        return next_step(self._mode, situation)

    def _arrive(self) -> None:
        arrivals = self._clock.arrivals
        while arrivals and arrivals[0][0] <= self._clock.now:
            _, _, interrupt = heapq.heappop(arrivals)
            self._pending.discard(interrupt.id)
            self._queued.append(interrupt)

    def _wait(self) -> bool:
        """Let time pass until something arrives; whether anything will."""
        if not self._clock.arrivals:
            return False
        self._clock.now = max(self._clock.now, self._clock.arrivals[0][0])
        self._arrive()
        self._was_paused = True
        return True

    def _inject(self) -> None:
        self._observe(self._monitor.injected())
        tokens = self._codec.encode(self._queued)
        self.tokens += tokens
        self.written += [False] * len(tokens)
        self.injected += self._queued
        self._queued = []
        self._point = Point.WRITING
        self._was_paused = False

    def _observe(self, events: list[Event]) -> None:
        for event in events:
            self._point = self._point.after(event)
            match event:
                case Call():
                    self._pending.add(event.id)
                    self.calls.append(event)
                    self._bundle.append(event)
                    if self._mode is not Mode.SYNC_PARALLEL:
                        self._dispatch_bundle()
                case Text(text):
                    self.text += text
                case FireAndForget():
                    self.errors.append("a call without an id")
                case ProtocolError():
                    self.errors.append(event.message)
                case Trap():
                    if not self._pending and not self._queued:
                        self.errors.append("a trap with nothing pending")
                        self._point = Point.WRITING
                case EndOfStream():
                    pass

    def _dispatch_bundle(self) -> None:
        for call in self._bundle:
            value, seconds = self._execute(call)
            self._clock.schedule(self._clock.now + seconds, Interrupt(call.id, value))
        self._bundle = []
