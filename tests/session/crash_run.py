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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from caesura.session.agents import Agents, Limits
from caesura.session.records import CallRecord, Phase, SessionEnding, SessionRecord
from caesura.tools.call import CallEnding
from caesura.tools.context import CallContext
from session.scripted import END, ByteDialogue, model
from session.workplace import OWNER, eventually, spec, tool, workplace


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


def plans(sessions: int, seed: int) -> list[str]:
    chance = random.Random(seed)

    def line() -> str:
        calls = [
            f'<<{chance.choice(["effect", "look"])} {{"x": {chance.randrange(1000)}}}>>'
            for _ in range(chance.choice([1, 1, 2, 3]))
        ]
        return "word " * chance.randrange(6) + " ".join(calls)

    return ["\n".join(line() for _ in range(chance.randrange(1, 5))) for _ in range(sessions)]


async def live(folder: Path, sessions: int, seed: int) -> None:
    """One life: make the sessions that are missing, and run until all have ended."""
    async with workplace(folder / "caesura.db", *tools(folder)) as work:
        agents = Agents(work, Limits(open_sessions_per_owner=10**6))
        await agents.start()
        known = {record.spec.metadata["index"] for record in await _records(agents)}
        for index, plan in enumerate(plans(sessions, seed)):
            if str(index) not in known:
                made = spec(plan, keep_open=False, metadata={"index": str(index)})
                await agents.create(OWNER, made)
        await eventually(lambda: not agents.running)
        await agents.stop()


async def _records(agents: Agents) -> list[SessionRecord]:
    return await agents.sessions(OWNER, limit=10**6)


def killed_after(seconds: float, folder: Path, sessions: int, seed: int) -> bool:
    """Fork a life and kill it; whether it was still alive."""
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(live(folder, sessions, seed))
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


async def check(folder: Path, sessions: int, seed: int) -> Counter[str]:
    """Compare what is left with what should be.

    Raises:
        AssertionError: a session is lost, a call was repeated, or a transcript differs.
    """
    lines = effect_file(folder).read_text().splitlines()
    executions = Counter(tuple(line.split()) for line in lines)
    counts: Counter[str] = Counter()
    async with workplace(folder / "caesura.db", *tools(folder)) as work:
        agents = Agents(work)
        records = await _records(agents)
        wanted = plans(sessions, seed)
        assert sorted(int(r.spec.metadata["index"]) for r in records) == [*range(len(wanted))]
        for record in records:
            assert (record.phase, record.ending) == (Phase.ENDED, SessionEnding.COMPLETED), record
            calls = await work.store.calls(record.id)
            counts["calls"] += len(calls)
            for call in calls:
                counts.update(_checked(call, executions))
            transcript = await work.store.transcript(record.id)
            assert transcript == uninterrupted(record, calls), f"session {record.id}"
            counts["tokens"] += len(transcript)
            numbers = [event.number for event in await work.store.events(record.id)]
            assert numbers == sorted(set(numbers))
    counts["sessions"] = len(records)
    return counts


def _checked(record: CallRecord, executions: Counter[tuple[str, ...]]) -> list[str]:
    assert record.result is not None
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
        seed = options.seed + batch
        while kills < options.kills:
            if not killed_after(chance.uniform(0.0, 0.4), folder, options.sessions, seed):
                break
            kills += 1
        while killed_after(600.0, folder, options.sessions, seed):
            raise SystemExit("the sessions do not end")
        total += asyncio.run(check(folder, options.sessions, seed))
        batch += 1
    print(f"{kills} kills in {batch} runs:", ", ".join(f"{n} {what}" for what, n in total.items()))


if __name__ == "__main__":
    main()
