"""At which arrival rate stock vLLM has more to do than it can, by what tokens cost here.

Where memory is short, stock computes the context of a session again after each pause. That is
work, too: a session then takes the engine `thrashing_seconds` instead of `kept_seconds`. From the
rate on at which sessions of the first kind keep it busy all the time a queue builds up. Its running
contexts leave still less memory for paused ones, so it does not recover while sessions arrive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from caesura.lab.bench.workload import WorkloadSession

STOCK_LOAD = 1.2
"""Work that arrives for stock vLLM, in seconds per second: a fifth more than it can do, since
sessions are few and their arrivals random."""

RUNS_SECONDS = 200.0
"""For all runs. Starting engines, measuring and the agent's part are the rest of five minutes."""

_ARMS = 2
_ARRIVING_SECONDS = 15.0
_LEAST_SESSIONS = 16  # so that memory fills where few arrive


@dataclass(frozen=True, slots=True)
class SessionWork:
    """What a session of a workload asks for, on average.

    Attributes:
        prompt_tokens: that are new.
        output_tokens: that are generated.
        lost_tokens: of contexts after pauses, that are computed again if no context is kept.
        context_tokens: of context while a token is generated.
        paused_token_seconds: memory that its pauses hold if all contexts are kept.
        seconds_in_pauses: of a session that has long ones: nine of ten have shorter ones.
        resumptions: turns after a pause.
    """

    prompt_tokens: float
    output_tokens: float
    lost_tokens: float
    context_tokens: float
    paused_token_seconds: float
    seconds_in_pauses: float
    resumptions: float

    @classmethod
    def of(cls, sessions: Sequence[WorkloadSession]) -> "SessionWork":
        """Means over these sessions."""
        prompts = outputs = lost = held = resumptions = 0
        paused = 0.0
        in_pauses = []
        for session in sessions:
            ends = list(accumulate(segment.tokens for segment in session.segments))
            for end, segment in zip(ends, session.segments, strict=True):
                prompts += segment.append_tokens
                outputs += segment.output_tokens
                held += segment.output_tokens * (end - segment.output_tokens // 2)
                paused += end * (segment.pause_seconds or 0.0)
            in_pauses.append(sum(segment.pause_seconds or 0.0 for segment in session.segments))
            lost += sum(ends[:-1])
            resumptions += len(ends) - 1
        count = len(sessions)
        return cls(
            prompt_tokens=prompts / count,
            output_tokens=outputs / count,
            lost_tokens=lost / count,
            context_tokens=held / outputs,
            paused_token_seconds=paused / count,
            seconds_in_pauses=sorted(in_pauses)[int(0.9 * (count - 1))],
            resumptions=resumptions / count,
        )

    def side_by_side(self, kv_tokens: int) -> int:
        """How many sessions that generate fit into memory at once."""
        return max(1, round(kv_tokens / self.context_tokens))


@dataclass(frozen=True, slots=True)
class TokenCosts:
    """What tokens take on an engine that has all contexts in memory. Seconds.

    Attributes:
        prompt_seconds: a token of a prompt.
        output_seconds: a generated token, with as many sessions at once as fit into memory.
    """

    prompt_seconds: float
    output_seconds: float


@dataclass(frozen=True, slots=True)
class ArrivalRate:
    """A rate, and what it is made of.

    Attributes:
        per_second: sessions that arrive.
        kept_seconds: time of the engine for a session whose contexts are kept.
        thrashing_seconds: the same if each turn computes its context again.
        paused_tokens: memory that paused contexts want at any time.
    """

    per_second: float
    kept_seconds: float
    thrashing_seconds: float
    paused_tokens: float

    @property
    def kept_load(self) -> float:
        """Work that arrives if contexts are kept, in seconds per second."""
        return self.per_second * self.kept_seconds


def saturating_rate(work: SessionWork, costs: TokenCosts) -> ArrivalRate:
    """The rate at which sessions that lose their contexts are `STOCK_LOAD` of the engine's time."""
    kept = work.prompt_tokens * costs.prompt_seconds + work.output_tokens * costs.output_seconds
    thrashing = kept + work.lost_tokens * costs.prompt_seconds
    rate = STOCK_LOAD / thrashing
    return ArrivalRate(rate, kept, thrashing, rate * work.paused_token_seconds)


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """What sessions cost on this machine, and the rate that follows.

    Attributes:
        work: of a session of the sample.
        costs: of its tokens here.
        rate: at which stock has more to do than it can.
        kv_tokens: what device memory holds.
    """

    work: SessionWork
    costs: TokenCosts
    rate: ArrivalRate
    kv_tokens: int

    @property
    def sessions(self) -> int:
        """How many arrive in a run."""
        return max(_LEAST_SESSIONS, round(self.rate.per_second * _ARRIVING_SECONDS))

    @property
    def run_seconds(self) -> float:
        """About how long a run takes: until its work is done, and the last sessions' pauses."""
        arriving = self.sessions / self.rate.per_second
        return STOCK_LOAD * arriving + self.work.seconds_in_pauses

    @property
    def seeds(self) -> tuple[int, ...]:
        """Two, on a machine that is quick enough for it."""
        return (0, 1) if 2 * _ARMS * self.run_seconds <= RUNS_SECONDS else (0,)

    def sentences(self) -> Iterator[str]:
        """The rate, and why it is this one."""
        work, costs, rate = self.work, self.costs, self.rate
        yield (
            f"Measured here on stock vLLM: {1000 * costs.prompt_seconds:.2f} ms per token of a "
            f"prompt, {1000 * costs.output_seconds:.2f} ms per generated token with "
            f"{work.side_by_side(self.kv_tokens)} sessions at once. So a session of the sample is "
            f"{rate.kept_seconds:.2f} s of work if its context is kept, and "
            f"{rate.thrashing_seconds:.2f} s if it is computed again after each pause."
        )
        yield (
            f"{rate.per_second:.2f} sessions/s arrive: {STOCK_LOAD:.1f} s of work per second if "
            f"contexts are lost, more than the engine can do, and {rate.kept_load:.1f} s if they "
            f"are kept. Paused contexts want memory for {rate.paused_tokens:.0f} tokens, and those "
            f"that run for {work.side_by_side(self.kv_tokens) * work.context_tokens:.0f}; there is "
            f"room for {self.kv_tokens}."
        )
