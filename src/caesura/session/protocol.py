"""The one seam between sessions and an engine.

Everything above the engine (sessions, benchmarks, later the server) talks to a
`TokenEngine`. There are two implementations on vLLM in `caesura.engine` (sessions
in place, and stock vLLM with one request per turn) and a fake in the tests.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from caesura.cml import FrameRules
from caesura.session.errors import ContextFull


class StopReason(StrEnum):
    """Why generation of a turn stopped."""

    STOP = "stop"  # end-of-sequence or one of `Sampling.stop_token_ids`
    LENGTH = "length"  # `Sampling.max_tokens` or the model's context length
    INTERRUPTED = "interrupted"  # appended tokens ended the turn; generation goes on
    FRAME = "frame"  # `Sampling.frames`: the end of a frame, or of a bundle of calls


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one turn is generated.

    Attributes:
        max_tokens: tokens to generate at most in this turn.
        stop_token_ids: token ids that end the turn; the stopping token is part of the output.
        ignore_eos: go on after the end-of-sequence token (for replays of fixed lengths).
        temperature: 0 is greedy.
        seed: seed of the sampler, when `temperature` is above 0.
        top_p, top_k, min_p: which tokens are sampled from; by default all.
        repetition_penalty, presence_penalty, frequency_penalty: of tokens that are there already;
            by default none.
        frames: how the session's CML frames end and guard its turns; None for none. Such a
            session's end-of-sequence token ends the turn and is not part of the output.
        grammar: what the turn may be, in a language of the engine; None: anything.
        extra: further arguments for the engine, as they are; for what only one engine knows.
        salt: sessions of different salts use nothing of each other's contexts, though they have
            the same tokens; the same in all turns of a session.
        adapter: name of the adapter that generates in place of the model itself; the same in all
            turns of a session.
    """

    max_tokens: int
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    temperature: float = 0.0
    seed: int | None = None
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    frames: FrameRules | None = None
    grammar: str | None = None
    extra: Mapping[str, object] | None = None
    salt: str | None = None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a served model is sampled where a request does not say.

    Those who trained it have advised that, or the operator has said so.

    Attributes:
        max_tokens: tokens to generate at most in a turn; None: as many as there is room for.
        most_tokens: the operator's limit, which no request exceeds; None for none.
        temperature, top_p, top_k, min_p: as `Sampling` has them.
        repetition_penalty, presence_penalty, frequency_penalty: as `Sampling` has them.
    """

    max_tokens: int | None = None
    most_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Delta:
    """Newly generated tokens of a session, in order.

    Attributes:
        token_ids: the new tokens (may be empty in the last delta of a turn).
        stop: set on the last delta of a turn; None while it generates.
        stop_token_id: the token that stopped the turn, when `stop` is `STOP`; the frame's last
            when it is `FRAME`, None where a bundle of calls ended.
        cached_tokens: tokens of the context that were not computed again, on the first delta
            of a turn, when the engine reports it.
    """

    token_ids: tuple[int, ...]
    stop: StopReason | None = None
    stop_token_id: int | None = None
    cached_tokens: int | None = None


class EngineStream(Protocol):
    """One open session inside an engine."""

    def deltas(self) -> AsyncIterator[Delta]:
        """Yield deltas for as long as the session is open, across pauses.

        Exactly one delta has `stop` set for the prompt and for each call of `extend`. When
        tokens were appended while the session generated, the turn that they ended has
        `StopReason.INTERRUPTED`, unless it stopped by itself at that moment. With
        `Sampling.frames` they end it where `caesura.cml.FrameWatch` allows it.
        """
        ...

    async def extend(
        self, token_ids: Sequence[int], sampling: Sampling, endpoint: str | None = None
    ) -> None:
        """Append tokens: resumes a paused session, interrupts a generating one.

        Each call starts one more turn. `endpoint` is what the pause after that turn waits
        for, when it is known beforehand.
        """
        ...

    async def progress(
        self,
        *,
        fraction: float | None = None,
        remaining_seconds: float | None = None,
        endpoint: str | None = None,
    ) -> None:
        """Say how far what a paused session waits for has come: the share that is done, or the
        time that is left. `endpoint` names what it waits for, when that is known only now.

        A hint about when the session returns. An engine may ignore it, and does once the session
        is not paused any more.
        """
        ...

    async def name_next_pause(self, endpoint: str) -> None:
        """Say what a generating session will wait for when it pauses next; said again, the later
        name holds. Where the pause has begun meanwhile, it gets the name. An engine may ignore
        it."""
        ...

    async def close(self) -> None:
        """End the session at any moment and free all that it holds."""
        ...


class TokenEngine(Protocol):
    """An engine that runs sessions of tokens."""

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> EngineStream:
        """Start a session with its first prompt.

        Args:
            session_id: unique among open sessions.
            token_ids: the prompt, at least one token.
            sampling: how the first turn is generated.
            endpoint: what the pause after the first turn waits for, when it is known beforehand.
        """
        ...


def require_room(tokens: int, longest: int) -> None:
    """Refuse a context that leaves no room to generate.

    Args:
        tokens: in the context.
        longest: no context may get as long as this.

    Raises:
        ContextFull: says how long it is and how long it may be.
    """
    if tokens >= longest:
        raise ContextFull(
            f"a context of {tokens} tokens leaves no room to generate; this model serves {longest}"
        )
