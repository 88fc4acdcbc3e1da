"""Workloads: sessions of turns and pauses, as numbers only."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError
from pydantic import model_validator as _model_validator

from caesura.errors import CaesuraError


class WorkloadError(CaesuraError, ValueError):
    """A workload cannot be used; the message says where it is wrong and why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One turn of a session and the pause after it.

    Attributes:
        append_tokens: tokens that arrive before the turn (the prompt, for the first one).
        output_tokens: tokens that are generated.
        pause_seconds: how long the pause after the turn lasts; None after the last turn.
        endpoint: what that pause waits for, None when it is not known.
    """

    append_tokens: int
    output_tokens: int
    pause_seconds: float | None = None
    endpoint: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens by which the turn lengthens the context."""
        return self.append_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class WorkloadSession:
    """One session of a workload: its class of agent (`kind`) and its turns."""

    id: str
    kind: str
    segments: tuple[Segment, ...]

    @property
    def context_tokens(self) -> int:
        """Tokens of context at the end of the session."""
        return sum(segment.tokens for segment in self.segments)

    @property
    def output_tokens(self) -> int:
        """Tokens generated in the whole session."""
        return sum(segment.output_tokens for segment in self.segments)

    def ending_after(self, turns: int) -> "WorkloadSession":
        """The same session, over after its first `turns` turns."""
        *before, last = self.segments[:turns]
        last = replace(last, pause_seconds=None, endpoint=None)
        return replace(self, segments=(*before, last))


class _SegmentLine(BaseModel):
    """A segment as it stands in a trace file."""

    model_config = ConfigDict(strict=True, frozen=True)

    append: PositiveInt
    output: PositiveInt
    pause_s: NonNegativeFloat | None = Field(default=None, allow_inf_nan=False)
    endpoint: str | None = None


class _SessionLine(BaseModel):
    """A session as it stands in a trace file, one per line."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: str = Field(min_length=1)
    kind: str = Field(alias="class", min_length=1)
    segments: list[_SegmentLine] = Field(min_length=1)

    @_model_validator(mode="after")
    def _pauses_between_segments(self) -> Self:
        *before, last = self.segments
        for index, segment in enumerate(before):
            if segment.pause_s is None:
                raise ValueError(f"segments.{index} is not the last one and has no pause_s")
        if last.pause_s is not None:
            raise ValueError(f"segments.{len(before)} is the last one and must not have a pause_s")
        return self

    def spec(self) -> WorkloadSession:
        segments = (Segment(s.append, s.output, s.pause_s, s.endpoint) for s in self.segments)
        return WorkloadSession(self.id, self.kind, tuple(segments))


def load_jsonl(path: Path) -> list[WorkloadSession]:
    """Sessions of a trace file, see `parse_jsonl`.

    Raises:
        WorkloadError: the file cannot be read, or a line of it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: the workload cannot be read: {error}") from error
    return parse_jsonl(text, name=str(path))


def parse_jsonl(text: str, name: str) -> list[WorkloadSession]:
    """Sessions of a trace, one JSON object per line; blank lines are skipped.

    A line is `{"id", "class", "segments": [{"append", "output", "pause_s", "endpoint"}]}`:
    lengths in tokens and at least 1, `pause_s` in seconds, at least 0, on all segments but
    the last. Other keys are ignored.

    Args:
        text: the trace.
        name: of the file, for messages.

    Raises:
        WorkloadError: a line is wrong; the message has the file, the line and the reason.
    """
    line_of_id: dict[str, int] = {}
    sessions: list[WorkloadSession] = []
    # Not `splitlines`: texts may have line separators of their own.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            session = _SessionLine.model_validate_json(line).spec()
        except ValidationError as error:
            raise WorkloadError(f"{name}:{number}: {_reasons(error)}") from error
        if session.id in line_of_id:
            first = line_of_id[session.id]
            raise WorkloadError(f"{name}:{number}: id {session.id!r} is already on line {first}")
        line_of_id[session.id] = number
        sessions.append(session)
    if not sessions:
        raise WorkloadError(f"{name}: there are no sessions in it")
    return sessions


def _reasons(error: ValidationError) -> str:
    def reason(location: tuple[int | str, ...], message: str) -> str:
        message = message.removeprefix("Value error, ")
        return f"{'.'.join(map(str, location))}: {message}" if location else message

    return "; ".join(reason(detail["loc"], detail["msg"]) for detail in error.errors())


def scaled(
    sessions: Iterable[WorkloadSession], tokens: float = 0.5, pauses: float = 0.2
) -> list[WorkloadSession]:
    """Sessions with lengths multiplied by `tokens` and pauses by `pauses`.

    Lengths are rounded, and at least 1.

    Raises:
        WorkloadError: a factor is not usable.
    """
    if not 0 < tokens < float("inf"):
        raise WorkloadError(f"tokens can only be scaled by a positive number, not {tokens}")
    if not 0 <= pauses < float("inf"):
        raise WorkloadError(f"pauses can only be scaled by 0 or a positive number, not {pauses}")

    if tokens == pauses == 1:  # nothing changes, and there may be a million of them
        return list(sessions)

    def scale(segment: Segment) -> Segment:
        return replace(
            segment,
            append_tokens=max(1, round(segment.append_tokens * tokens)),
            output_tokens=max(1, round(segment.output_tokens * tokens)),
            pause_seconds=None if segment.pause_seconds is None else segment.pause_seconds * pauses,
        )

    return [replace(s, segments=tuple(map(scale, s.segments))) for s in sessions]


@dataclass(frozen=True, slots=True)
class ClippedSessions:
    """Sessions that fit a context length, and what became of those that did not.

    Attributes:
        sessions: those that fit, whole or truncated.
        truncated: how many of them lost their last turns.
        dropped: how many did not fit with even one turn.
    """

    sessions: tuple[WorkloadSession, ...]
    truncated: int
    dropped: int


def clip_context(sessions: Iterable[WorkloadSession], max_context_tokens: int) -> ClippedSessions:
    """Truncate sessions at the last turn that fits `max_context_tokens`; drop the others."""
    kept: list[WorkloadSession] = []
    truncated = dropped = 0
    for session in sessions:
        lengths = accumulate(segment.tokens for segment in session.segments)
        turns = sum(length <= max_context_tokens for length in lengths)
        if turns == len(session.segments):
            kept.append(session)
        elif turns:
            truncated += 1
            kept.append(session.ending_after(turns))
        else:
            dropped += 1
    return ClippedSessions(tuple(kept), truncated, dropped)


def sample(sessions: Sequence[WorkloadSession], n: int, seed: int) -> list[WorkloadSession]:
    """`n` sessions in random order: without replacement as far as they last, then with.

    A session that is drawn again gets an id of its own: `id~2`, `id~3` and so on.

    Raises:
        WorkloadError: there is nothing to draw from, or nothing to draw.
    """
    if n < 1 or not sessions:
        raise WorkloadError(f"cannot sample {n} sessions out of {len(sessions)}")
    rng = random.Random(seed)
    drawn = rng.sample(sessions, k=min(n, len(sessions)))
    drawn += rng.choices(sessions, k=n - len(drawn))
    return list(_with_unique_ids(drawn))


def _with_unique_ids(sessions: Iterable[WorkloadSession]) -> Iterator[WorkloadSession]:
    times_seen: dict[str, int] = {}
    for session in sessions:
        times = times_seen[session.id] = times_seen.get(session.id, 0) + 1
        yield session if times == 1 else replace(session, id=f"{session.id}~{times}")


def poisson_arrivals(n: int, sessions_per_second: float, seed: int) -> list[float]:
    """Arrival times of `n` sessions in seconds, the first at 0.

    The same seed gives the same pattern at every rate, stretched.

    Raises:
        WorkloadError: the rate is not positive.
    """
    if not 0 < sessions_per_second < float("inf"):
        raise WorkloadError(f"a rate is a positive number of sessions/s, not {sessions_per_second}")
    rng = random.Random(seed)
    gaps = [0.0, *(rng.expovariate(1.0) for _ in range(n - 1))]
    return [time / sessions_per_second for time in accumulate(gaps[:n])]
