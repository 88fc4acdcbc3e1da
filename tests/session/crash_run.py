"""Sessions that are killed again and again, and what is checked of them afterwards.

    python tests/session/crash_run.py FOLDER --sessions 50 --kills 200 --seed 0

One process is forked per life, so that a life costs no imports. Tools with effects write each
execution to a file before they answer.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from caesura.session.agents import Agents
from caesura.session.errors import SessionClosed
from caesura.session.limits import Limits
from caesura.session.records import (
    CallRecord,
    Phase,
    Protocol,
    SessionEnding,
    SessionRecord,
    SessionSpec,
)
from caesura.tools.call import CallEnding
from caesura.tools.context import CallContext
from session.calling.byte_model import EOS, PROMPT
from session.planned import END as MARKER_END
from session.planned import FORMATS, HEAD, INTR, call, read, send_off
from session.planned import engine as planned_engine
from session.planned import model as planned_model
from session.scripted import ASSISTANT, END, ByteDialogue, model
from session.workplace import OWNER, calls_of, eventually, spec, stored, tool, workplace
from support.engines.fakes import FakeEngine

FUTURES = "async with futures"
KINDS = (None, "sync", "sync_parallel", "async", FUTURES)


def effect_file(folder: Path) -> Path:
    return folder / "effects"


def tools(folder: Path):
    def write(kind: str, context: CallContext) -> None:
        line = f"{kind} {context.call.id}\n".encode()
        file = os.open(effect_file(folder), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line)
        os.close(file)

    async def effect(x: int, context: CallContext) -> str:
        """Something that must not happen twice."""
        write("effect", context)
        await asyncio.sleep(0.001 * (x % 7))
        return f"effect of {x}"

    async def look(x: int, context: CallContext) -> str:
        """Something that may be repeated."""
        write("look", context)
        await asyncio.sleep(0.001 * (x % 5))
        return f"saw {x}"

    return tool(effect), tool(look, idempotent=True)


def specs(sessions: int, seed: int) -> list[SessionSpec]:
    """Sessions of all kinds in turn."""
    chance = random.Random(seed)
    made = []
    for index in range(sessions):
        kind = KINDS[index % len(KINDS)]
        in_cml = kind is not None and kind is not FUTURES
        rounds = chance.randrange(1, 5)
        lines = [(cml_line if in_cml else native_line)(chance, n, kind) for n in range(rounds)]
        plan = ("|" if in_cml else "\n").join(lines)
        fields = {} if kind is None else {"function_calling": kind.split()[0]}
        if kind is FUTURES:
            fields["protocol"] = "futures"
        made.append(spec(plan, keep_open=False, metadata={"index": str(index)}, **fields))
    return made


def native_line(chance: random.Random, number: int, kind: str | None) -> str:
    calls = [
        f'<<{chance.choice(["effect", "look"])} {{"x": {chance.randrange(1000)}}}>>'
        for _ in range(chance.choice([1, 1, 2, 3]))
    ]
    if kind is FUTURES and chance.random() < 0.5:
        calls.append(f'<<await_future {{"future": "f{chance.randrange(1, 4)}"}}>>')
    return "word " * chance.randrange(6) + " ".join(calls)


def cml_line(chance: random.Random, number: int, kind: str | None) -> str:
    ids = [f"{letter}{number}" for letter in "abc"[: chance.choice([1, 1, 2, 3])]]
    tools = [chance.choice(["effect", "look"]) for _ in ids]
    frames = [
        call(call_id, name, x=chance.randrange(1000))
        for call_id, name in zip(ids, tools, strict=True)
    ]
    if chance.random() < 0.3:
        frames.append(send_off("effect", x=chance.randrange(1000)))
    if chance.random() < 0.2:
        frames.append(call(f"wrong{number}", "nothing"))
    text = "word " * chance.randrange(6)
    waits = [f"?{call_id}| had |={call_id}" for call_id in chance.sample(ids, len(ids))]
    return "|".join([text + "".join(frames) + text, *waits[: chance.randrange(len(ids) + 1)]])


class BothModels:
    """A `TokenEngine` with a model for sessions in CML, and one for the others."""

    def __init__(self) -> None:
        self._planned, self._scripted = planned_engine(), FakeEngine(END, model)

    async def open(self, session_id, token_ids, sampling, endpoint=None):
        engine = self._planned if sampling.frames is not None else self._scripted
        return await engine.open(session_id, token_ids, sampling, endpoint)


async def live(folder: Path, sessions: int, seed: int) -> None:
    """One life: make the sessions that are missing, and run until all have ended."""
    limits = Limits(open_sessions_per_owner=10**6, sessions_per_minute=10**6)
    async with all_kinds(folder, limits) as work:
        agents = Agents(work)
        await agents.start()
        known = {record.spec.metadata["index"] for record in await _records(agents)}
        for made in specs(sessions, seed):
            if made.metadata["index"] not in known:
                agent = await agents.create(OWNER, made)
                if agent.spec.protocol is Protocol.CML and int(made.metadata["index"]) % 2:
                    with suppress(SessionClosed):
                        await agent.steer("and [this]")
        await eventually(lambda: not agents.running)

        async def nothing_left() -> bool:
            return not await work.store.left_calls()

        await stored(nothing_left)
        await agents.stop()


def all_kinds(
    folder: Path,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
    lease_seconds: float | None = None,
):
    path, engine = folder / "caesura.db", BothModels()
    return workplace(
        path,
        *tools(folder),
        engine=engine,
        formats=FORMATS,
        clock=clock,
        limits=limits,
        lease_seconds=lease_seconds,
    )


async def _records(agents: Agents, owner: str = OWNER) -> list[SessionRecord]:
    return await agents.sessions(owner, limit=10**6)


def killed_after(seconds: float, live: Callable[[], Coroutine[None, None, None]]) -> bool:
    """Fork a life and kill it; whether it was still alive."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live())
            os._exit(0)
        except BaseException as error:
            print(f"a life failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit("a life failed")
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


async def check(folder: Path, sessions: int, owner: str = OWNER) -> Counter[str]:
    """Compare what is left of an owner's sessions with what should be.

    Raises:
        AssertionError: a session is lost, a call was repeated, or a transcript differs.
    """
    lines = effect_file(folder).read_text().splitlines()
    executions = Counter(tuple(line.split()) for line in lines)
    counts: Counter[str] = Counter()
    async with all_kinds(folder) as work:
        agents = Agents(work)
        records = await _records(agents, owner)
        assert sorted(int(r.spec.metadata["index"]) for r in records) == [*range(sessions)]
        for record in records:
            assert (record.phase, record.ending) == (Phase.ENDED, SessionEnding.COMPLETED), record
            calls = await calls_of(work.store, record.id)
            counts["calls"] += len(calls)
            for call in calls:
                counts.update(_checked(call, executions))
            transcript = await work.store.transcript(record.id)
            if record.spec.protocol is Protocol.CML:
                check_stream(transcript, calls)
            elif record.spec.protocol is Protocol.NATIVE:
                assert transcript == uninterrupted(record, calls), f"session {record.id}"
            else:
                check_futures(transcript, calls)
            counts["tokens"] += len(transcript)
            numbers = [event.number for event in await work.store.events(record.id)]
            assert numbers == sorted(set(numbers))
    counts["sessions"] = len(records)
    return counts


def _checked(record: CallRecord, executions: Counter[tuple[str, ...]]) -> list[str]:
    assert record.result is not None
    if record.call.name == "await_future":
        return ["awaited"]
    times = executions["effect", record.call.id]
    assert times <= 1, f"{record.call.id} was executed {times} times"
    if record.result.ending is CallEnding.INTERRUPTED:
        assert record.call.name == "effect"
        return ["interrupted"]
    assert record.result.ending is CallEnding.SUCCEEDED, record
    if record.call.name == "effect":
        assert times == 1
    return ["repeated"] * (executions["look", record.call.id] - 1)


def uninterrupted(record: SessionRecord, calls: list[CallRecord]) -> list[int]:
    """The transcript that the same results give in one go."""
    dialogue = ByteDialogue()
    transcript = dialogue.prompt(record.spec.messages, ())
    turns = sorted({call.turn for call in calls})
    for turn in [*turns, None]:
        while (token := model(transcript)) != END:
            transcript.append(token)
        transcript.append(END)
        results = [call.result for call in calls if call.turn == turn]
        if results:
            chat = [{"role": "tool", "content": result.content} for result in results]
            transcript += dialogue.append(transcript, chat)
    return transcript


def check_stream(transcript: list[int], calls: list[CallRecord]) -> None:
    """Each token that the model wrote follows from those before it, and each result is there."""
    start = transcript.index(PROMPT) + 1
    inside = in_prompt = False
    found: Counter[str] = Counter()
    for position in range(start, len(transcript)):
        if transcript[position] == EOS or in_prompt:
            in_prompt = transcript[position] != PROMPT
        elif transcript[position] == INTR:
            inside = True
            found[bytes(transcript[position + 1 : transcript.index(HEAD, position)]).decode()] += 1
        elif inside:
            inside = transcript[position] != MARKER_END
        else:
            assert transcript[position] == planned_model(transcript[:position]), position
    assert planned_model(transcript) == EOS
    results, _ = read(transcript[start:])
    for record in calls:
        if record.label is not None:
            assert results[record.label] == record.result.content
    others = {call_id for call_id in found if call_id.startswith(("wrong", "user"))}
    labels = {record.label for record in calls if record.label is not None}
    if calls:
        assert found == Counter([*labels, *others]), "each was injected once"


def check_futures(transcript: list[int], calls: list[CallRecord]) -> None:
    """Each turn follows from what was before it, and the model has seen each result."""
    text = bytes(transcript)
    assert text.endswith(b"\x02")
    for turn in range(1, text.count(ASSISTANT) + 1):
        before, _, rest = _after(text, ASSISTANT, turn)
        answer = list(before + ASSISTANT)
        while (token := model(answer)) != END:
            answer.append(token)
        assert bytes([*answer, END]) == text[: len(answer) + 1]
        assert rest.startswith(bytes(answer[len(before) + len(ASSISTANT) :]))
    for record in calls:
        if record.label is not None:
            told = b'"%s", "status": "ready"' % record.label.encode()
            failed = b'"%s", "status": "failed"' % record.label.encode()
            assert told in text or failed in text, record


def _after(text: bytes, mark: bytes, times: int) -> tuple[bytes, bytes, bytes]:
    """The text before and after a mark, at its so many-th place."""
    place = -1
    for _ in range(times):
        place = text.index(mark, place + 1)
    return text[:place], mark, text[place + len(mark) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    kills = 0
    batch = 0
    total: Counter[str] = Counter()
    while kills < options.kills:
        # A run is over sooner or later: the next one starts with a new database.
        folder = options.folder / str(batch)
        folder.mkdir()
        life = partial(live, folder, options.sessions, options.seed + batch)
        while kills < options.kills:
            if not killed_after(chance.uniform(0.0, 0.4), life):
                break
            kills += 1
        while killed_after(600.0, life):
            raise SystemExit("the sessions do not end")
        total += asyncio.run(check(folder, options.sessions))
        batch += 1
    print(f"{kills} kills in {batch} runs:", ", ".join(f"{n} {what}" for what, n in total.items()))


if __name__ == "__main__":
    main()
