"""Sessions whose engine refuses, fails, lets them go, or is closed."""

import asyncio

import pytest

from caesura.cml import FireAndForget, Interrupt, Mode, Text
from caesura.session import ContextFull, EngineFailed, SessionDetached
from caesura.session.calling import Ending, Injected, Paused, TextWritten
from cml_transcript import read_transcript
from session.calling.byte_model import EOS, EagerEngine, EagerStream, Refusing, eager, shown
from session.calling.play import calling, until

FULL = ContextFull("a context of 99 tokens leaves no room")
FAILED = EngineFailed("it burns")


@pytest.mark.parametrize("pause", ["", "[TRAP][END]"])
def test_a_result_that_does_not_fit_ends_the_session_and_is_kept(pause: str) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END]' + pause + " word" * 100
        session = calling(Refusing(script, FULL), Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, Paused) or (isinstance(event, TextWritten) and not pause):
                session.deliver(Interrupt("a", "long"))
        assert event.ending is Ending.LIMIT
        assert event.message == str(FULL)
        assert session.has_queued
        await session.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("pause", ["", "[TRAP][END]"])
def test_a_failing_engine_is_told_to_the_owner(pause: str) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END]' + pause + " word" * 100
        session = calling(Refusing(script, FAILED), Mode.ASYNC)

        async def run() -> None:
            async for event in session.events():
                if isinstance(event, Paused) or (isinstance(event, TextWritten) and not pause):
                    session.deliver(Interrupt("a", "1"))

        with pytest.raises(EngineFailed, match="it burns"):
            await run()
        assert session.has_queued
        await session.close()

    asyncio.run(scenario())


class LettingGo(EagerEngine):
    """An engine that lets its first session go when it is paused, and tells it late or early."""

    def __init__(self, script: str, early: bool) -> None:
        fake = eager(script)
        super().__init__(EOS, fake.model, fake.text_of)
        self.early = early

    async def open(self, *args, **options):
        stream = await super().open(*args, **options)
        return stream if len(self.streams) > 1 else Detached(stream, self.early)


class Detached:
    def __init__(self, stream: EagerStream, early: bool) -> None:
        self._stream, self._early = stream, early
        self._gone = asyncio.Event()

    async def deltas(self):
        async for delta in self._stream.deltas():
            yield delta
            if delta.stop is not None:
                break
        await self._gone.wait()
        raise SessionDetached("gone")

    async def extend(self, token_ids, sampling, endpoint=None):
        first = not self._gone.is_set()
        self._gone.set()
        if self._early or not first:
            raise SessionDetached("gone")

    async def progress(self, **hints):
        pass

    async def name_next_pause(self, endpoint):
        pass

    async def close(self):
        await self._stream.close()


@pytest.mark.parametrize("early", [False, True])
def test_a_session_that_the_engine_lets_go_loses_nothing(early: bool) -> None:
    async def scenario() -> None:
        script = '[CALL]a[HEAD]{"name":"f"}[END][TRAP][END] One word more.'
        fake = LettingGo(script, early)
        session = calling(fake, Mode.ASYNC)
        async for event in session.events():
            if isinstance(event, Paused):
                session.deliver(Interrupt("a", "1"))
            if isinstance(event, Injected) and event.arrivals[0].interrupt.id == "a":
                session.steer("at once")
        assert event.ending is Ending.COMPLETED
        pieces = read_transcript(shown(session.transcript[1:]))
        interrupts = [piece for piece in pieces if isinstance(piece, Interrupt)]
        assert interrupts == [Interrupt("a", "1"), Interrupt.steering("at once")]
        assert event.position == len(session.transcript)
        await session.close()

    asyncio.run(scenario())


def test_closing_in_the_middle_leaves_no_task() -> None:
    async def scenario() -> None:
        session = calling(eager([Text("word " * 100), FireAndForget("f")]), Mode.ASYNC)
        await until(session, TextWritten)
        session.steer("hello")
        await session.close()
        await session.close()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if not task.done()]

    asyncio.run(scenario())


class Gated(EagerEngine):
    """An engine that takes tokens when it may."""

    def __init__(self, script: str) -> None:
        fake = eager(script)
        super().__init__(EOS, fake.model, fake.text_of)
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def open(self, *args, **options):
        stream = await super().open(*args, **options)
        extend = stream.extend

        async def slowly(*args, **options) -> None:
            self.asked.set()
            await self.may.wait()
            await extend(*args, **options)

        stream.extend = slowly
        return stream


def test_a_session_that_is_closed_while_it_is_resumed_ends() -> None:
    async def scenario() -> None:
        fake = Gated('[CALL]a[HEAD]{"name":"f"}[END][TRAP][END] Done.')
        session = calling(fake, Mode.ASYNC)

        async def follow() -> list:
            events = []
            async for event in session.events():
                events.append(event)
                if isinstance(event, Paused):
                    session.deliver(Interrupt("a", "1"))
            return events

        following = asyncio.create_task(follow())
        await fake.asked.wait()
        await session.close()
        fake.may.set()
        assert isinstance((await following)[-1], Paused)
        assert not fake.open_ids

    asyncio.run(scenario())
