"""Random sessions with CML frames, clients that play them, and what must be true of the result."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from caesura.cml import CallStop, Ending, FrameWatch, Ruling, Verdict
from caesura.cml.frame_watch import WORD_PATIENCE_TOKENS
from caesura.engine.model.frames import TokenTexts
from caesura.engine.serving.launch import Engine
from caesura.session import ContextFull, EngineFailed, NotGenerating, Sampling, Session, StopReason
from framed_model import INTR, framed_rules
from small_model import BLOCK_SIZE
from support.engines.real import KV_BLOCKS
from support.waiting import think

VOCABULARY = 1000
LONGEST_APPENDED = 60
CONTEXT_TOKENS = (KV_BLOCKS - 1) * BLOCK_SIZE
ROUNDING_SCORE = 2e-3  # two implementations in float32: two tokens this close are a tie
KEEP = Ruling(Verdict.KEEP)
FRAME = Ruling(Verdict.STOP_AFTER, Ending.FRAME)
BUNDLE = Ruling(Verdict.STOP_BEFORE, Ending.BUNDLE)
SEQUENCE = Ruling(Verdict.STOP_BEFORE, Ending.SEQUENCE)
INTERRUPTED = (
    Ruling(Verdict.STOP_AFTER, Ending.INTERRUPTED),
    Ruling(Verdict.STOP_BEFORE, Ending.INTERRUPTED),
)


@dataclass(frozen=True)
class FramedPlan:
    """One session's life.

    Attributes:
        interrupts: after how many generated tokens, how many interrupts.
        interrupt_seconds: when more of them come, whatever has been generated.
        leave_at: closed after that many deltas; None: after its last turn.
    """

    calls: CallStop
    at_words: bool
    prompt: int
    turns: int
    max_tokens: int
    interrupts: dict[int, int]
    interrupt_seconds: tuple[float, ...]
    pause_seconds: float
    start_seconds: float
    leave_at: int | None


framed_plans = st.builds(
    FramedPlan,
    calls=st.sampled_from(CallStop),
    at_words=st.booleans(),
    prompt=st.integers(1, 150),
    turns=st.integers(1, 6),
    max_tokens=st.integers(1, 60),
    interrupts=st.dictionaries(st.integers(0, 60), st.integers(1, 3), max_size=4),
    interrupt_seconds=st.lists(st.floats(0, 0.3), max_size=4).map(tuple),
    pause_seconds=st.sampled_from([0.0, 0.0, 0.01, 0.04, 0.1]),
    start_seconds=st.sampled_from([0.0, 0.0, 0.02, 0.1]),
    leave_at=st.none() | st.none() | st.integers(0, 40),
)
framed_scenarios = st.lists(framed_plans, min_size=1, max_size=8)


@dataclass
class FramedTurn:
    """What was generated of a turn, by its positions in the transcript, and how it ended.

    `most_at_once` is how many tokens the engine gave at once at most.
    """

    start: int
    tokens: int = 0
    most_at_once: int = 0
    stop: StopReason | None = None
    stop_token_id: int | None = None


@dataclass
class FramedRecord:
    """What a session did."""

    plan: FramedPlan
    transcript: list[int] = field(default_factory=list)
    turns: list[FramedTurn] = field(default_factory=list)


async def play_framed(engine: Engine, plans: list[FramedPlan], seed: int) -> list[FramedRecord]:
    """Play all sessions of a scenario at once; all are closed at the end."""
    players = [_Player(engine, seed * 1000 + index, plan) for index, plan in enumerate(plans)]
    await asyncio.gather(*(player.play() for player in players))
    return [player.record for player in players]


class _Player:
    def __init__(self, engine: Engine, seed: int, plan: FramedPlan) -> None:
        self.record = FramedRecord(plan)
        self._engine = engine
        self._random = random.Random(seed)
        self._plan = plan
        self._generated = 0
        self._deltas = 0

    def _tokens(self, most: int) -> list[int]:
        return [self._random.randrange(VOCABULARY) for _ in range(self._random.randint(1, most))]

    async def play(self) -> None:
        plan = self._plan
        await think(plan.start_seconds)
        prompt = [self._random.randrange(VOCABULARY) for _ in range(plan.prompt)]
        rules = framed_rules(plan.calls, at_words=plan.at_words)
        session = await Session.open(
            self._engine.tokens, prompt, Sampling(plan.max_tokens, frames=rules)
        )
        timers = [
            asyncio.create_task(self._interrupt_after(session, seconds))
            for seconds in plan.interrupt_seconds
        ]
        try:
            for turn in range(plan.turns):
                if turn:
                    await session.resume(self._tokens(LONGEST_APPENDED))
                if not await self._generate(session):
                    break
                await think(plan.pause_seconds)
        except (ContextFull, EngineFailed):
            # An interrupt came that the context had no room for any more.
            assert len(session.transcript) + LONGEST_APPENDED * 5 > CONTEXT_TOKENS
        for timer in timers:
            timer.cancel()
        self.record.transcript = list(session.transcript)
        await session.close()

    async def _interrupt_after(self, session: Session, seconds: float) -> None:
        await think(seconds)
        await self._interrupt(session)

    async def _interrupt(self, session: Session) -> None:
        with suppress(NotGenerating, ContextFull):
            await session.interrupt(self._tokens(40))

    async def _generate(self, session: Session) -> bool:
        """Generate until the pause; False when the session was left in the middle."""
        due = dict(self._plan.interrupts)
        turn: FramedTurn | None = None
        start = len(session.transcript)
        async for delta in session:
            turn = turn or FramedTurn(start)
            if turn not in self.record.turns[-1:]:
                self.record.turns.append(turn)
            turn.tokens += len(delta.token_ids)
            turn.most_at_once = max(turn.most_at_once, len(delta.token_ids))
            self._generated += len(delta.token_ids)
            self._deltas += 1
            if delta.stop is not None:
                turn.stop, turn.stop_token_id = delta.stop, delta.stop_token_id
                turn, start = None, len(session.transcript)
            if self._plan.leave_at is not None and self._deltas > self._plan.leave_at:
                return False
            for position in [key for key in due if key <= self._generated]:
                for _ in range(due.pop(position)):
                    await self._interrupt(session)
        return True


class Teacher:
    """What the model writes after each prefix of a transcript: one pass, by transformers.

    If each generated token is the greedy one after all that precedes, then by induction the
    outputs are those of uninterrupted greedy runs from the same prefixes.
    """

    def __init__(self, folder: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def scores(self, transcript: list[int]) -> torch.Tensor:
        """Scores of all tokens but `INTR` at each position and behind the last one.

        Row i are those of the token at position i + 1: (tokens, vocabulary).
        """
        scores = self._model(torch.tensor([transcript])).logits[0]
        scores[:, INTR] = -torch.inf
        return scores


def broken_promises(
    record: FramedRecord, teacher: Teacher, texts: TokenTexts, ends: tuple[int, ...]
) -> list[str]:
    """What is not as it would be in an uninterrupted run with the same appended tokens."""
    if not record.turns:
        return []
    transcript = record.transcript
    scores = teacher.scores(transcript)
    best, chosen = scores.topk(2)
    found = []
    plan = record.plan
    rules = framed_rules(plan.calls, at_words=plan.at_words)
    watch = FrameWatch(rules, frozenset(ends), texts)
    for turn in record.turns:
        end = turn.start + turn.tokens
        for position in range(turn.start, end):
            token = transcript[position]
            if best[position - 1, 0] - scores[position - 1, token] > ROUNDING_SCORE:
                found.append(f"{position}: {token} is not what the model writes")
        is_tie = best[end - 1, 0] - best[end - 1, 1] <= ROUNDING_SCORE
        cut = None if is_tie else int(chosen[end - 1, 0])
        watch.begin_turn(rules, frozenset(ends))
        if problem := _judge_end(turn, transcript, watch, cut, plan.max_tokens):
            found.append(f"{turn}: {problem}")
    return found


def _judge_end(
    turn: FramedTurn, transcript: list[int], watch: FrameWatch, cut: int | None, max_tokens: int
) -> str | None:
    """Whether a turn went on and ended by the rules.

    `cut` is what the model would have written next; None if rounding decides.
    """
    written = transcript[turn.start : turn.start + turn.tokens]
    rulings = [watch.feed(token, interrupt_waits=False) for token in written[:-1]]
    if any(ruling != KEEP for ruling in rulings):
        return f"it should have ended before: {rulings}"
    interrupted = turn.stop is StopReason.INTERRUPTED
    if not written and interrupted:
        return None  # more tokens were appended at once
    for token in written[-1:]:
        rulings.append(watch.feed(token, interrupt_waits=interrupted))
    last = rulings[-1] if rulings else KEEP
    match turn.stop:
        case None:
            return None if last == KEEP else f"it should have ended: {last}"
        case StopReason.LENGTH:
            full = len(written) == max_tokens or len(transcript) >= CONTEXT_TOKENS
            return None if last == KEEP and full else f"{last}, {len(written)} tokens"
        case StopReason.FRAME if turn.stop_token_id is not None:
            return None if last == FRAME else f"{last} instead of the end of a frame"
    if interrupted and last in INTERRUPTED:
        return None
    if last != KEEP:
        return f"{last} before the end"
    if cut is None:
        return None
    waited = interrupted and turn.tokens >= WORD_PATIENCE_TOKENS
    ruling = watch.feed(cut, interrupt_waits=interrupted)
    match turn.stop:
        case StopReason.STOP:
            good = ruling == SEQUENCE and turn.stop_token_id == cut
        case StopReason.INTERRUPTED:
            good = ruling in INTERRUPTED or (waited and not watch.in_frame)
        case _:
            good = ruling == BUNDLE
    return None if good else f"{ruling} at {cut}"
