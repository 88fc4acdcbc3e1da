"""Putting arrivals into a session's stream."""

import asyncio
from collections.abc import Callable, Sequence

from caesura.session.calling.arrivals import Arrivals
from caesura.session.calling.generation import Generation
from caesura.session.calling.reading import Reading
from caesura.session.calling.steps import Steps
from caesura.session.errors import SessionClosed, SessionDetached


class Injection:
    """Gives arrivals to the engine, one batch at a time.

    Args:
        arrivals: what has arrived.
        generation: the engine's side.
        reading: the model's side.
        steps: decide when to inject.
        clock: seconds of the session.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        generation: Generation,
        reading: Reading,
        steps: Steps,
        clock: Callable[[], float],
    ) -> None:
        self._arrivals = arrivals
        self._generation = generation
        self._reading = reading
        self._steps = steps
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    @property
    def may_interrupt(self) -> bool:
        """Whether `interrupt` has something to do and is not running already."""
        return not self._one_at_a_time.locked() and self._steps.is_to_inject

    async def interrupt(self) -> None:
        """Send what is queued to the running generation.

        Raises:
            SessionError: the engine did not take it; it stays queued.
        """
        async with self._one_at_a_time:
            while self._generation.is_running and self._steps.is_to_inject:
                batch = await self._arrivals.batch()
                if not self._generation.is_running:
                    return
                self._arrivals.send(batch)
                try:
                    await self._generation.interrupt(batch.token_ids, self._reading.tokens_left)
                except SessionClosed:  # halted meanwhile, and the batch recalled
                    return
                except SessionDetached:  # just let go; it is opened anew with the next delta
                    self._arrivals.recall(batch)
                    return
                except BaseException:
                    self._arrivals.recall(batch)
                    raise

    async def end_pause(self) -> None:
        """Inject everything that is queued, and generate.

        Raises:
            SessionError: the engine did not take it; it stays queued.
        """
        async with self._one_at_a_time:
            await self._place((), self._reading.tokens_left, self._reading.in_reasoning)

    async def begin_turn(self, prompt: Sequence[int]) -> None:
        """Begin the next turn: inject everything that is queued, then the prompt.

        Raises:
            SessionError: the engine did not take them; what is queued stays queued.
        """
        async with self._one_at_a_time:
            await self._place(prompt, self._reading.max_tokens, None)
            self._reading.begin_turn(len(prompt))

    async def _place(
        self, prompt: Sequence[int], max_tokens: int, in_reasoning: bool | None
    ) -> None:
        batch = await self._arrivals.batch(len(prompt))
        if batch.arrivals:
            self._arrivals.send(batch)
        try:
            await self._generation.go_on([*batch.token_ids, *prompt], max_tokens, in_reasoning)
        except BaseException:
            self._arrivals.recall(batch)
            raise
        if batch.arrivals:
            self._reading.place(self._clock())

    async def halt(self) -> None:
        """Stop the engine here; arrivals that it has not placed are queued again."""
        self._arrivals.recall()
        await self._generation.halt()
