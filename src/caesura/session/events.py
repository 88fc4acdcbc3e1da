"""The events of a session, in order, for those who follow it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence

from pydantic import JsonValue

from caesura.session.database import Statement
from caesura.session.records import Event, EventType
from caesura.session.store import Store

Report = tuple[EventType, Mapping[str, JsonValue]]
"""What happened, and its details."""

REMEMBERED_EVENTS = 512
RESERVED_EVENTS = 1024


class EventLog:
    """The events of one session.

    Most are written down with the change that they report. The pieces of an output are not: they
    are remembered until the output is complete, and then its text is one event. A number is
    given once, also across crashes: numbers are taken from a reserve that is on disk.

    Args:
        session_id: the session.
        first_number: no event has it or a higher one.
        store: where events are written.

    Attributes:
        is_over: no more events will come.
    """

    def __init__(self, session_id: str, first_number: int, store: Store) -> None:
        self._session_id = session_id
        self._store = store
        self._next = first_number
        self._reserved = first_number
        self._published = first_number - 1  # all events up to here can be seen
        self._ready: dict[int, Event | None] = {}  # beyond; None for those that were not written
        self._recent: deque[Event] = deque(maxlen=REMEMBERED_EVENTS)
        self._recent_first = first_number  # `_recent` has all events from here on
        self._pieces: list[Event] = []  # of the output that is being generated
        self._changed = asyncio.Event()
        self.is_over = False

    def claim(self, events: int) -> int | None:
        """See to it that so many more events have numbers: the new bound, to be written down
        with the first of them; None if there are enough."""
        if self._next + events <= self._reserved:
            return None
        self._reserved = self._next + events + RESERVED_EVENTS
        return self._reserved

    def prepare(self, kind: EventType, data: Mapping[str, JsonValue]) -> Event:
        """An event with its number; to be published once it is written, or withdrawn."""
        event = Event(self._next, kind, dict(data), self._store.clock())
        self._next += 1
        return event

    async def commit(
        self, *changes: Statement, reports: Sequence[Report] = (), pieces: int = 0
    ) -> None:
        """Write changes and what is reported of them together; then report.

        Of a session that is over nothing more is reported.

        Args:
            changes: what is written.
            reports: what is reported.
            pieces: events that will follow without being written.
        """
        if self.is_over:
            reports, pieces = (), 0
        reserved = self._reserved
        claimed = self.claim(len(reports) + pieces)
        events = [self.prepare(kind, data) for kind, data in reports]
        written = [self._store.add_event(self._session_id, event) for event in events]
        if claimed is not None:
            written.append(self._store.claim_events(self._session_id, claimed))
        try:
            await self._store.commit(*changes, *written)
        except BaseException:
            if claimed == self._reserved:
                self._reserved = reserved  # it is not written
            for event in events:
                self.withdraw(event)
            raise
        for event in events:
            self.publish(event)

    def publish(self, event: Event) -> None:
        """The event is written: followers may see it, after all before it."""
        self._settle(event.number, event)

    def withdraw(self, event: Event) -> None:
        """The event could not be written."""
        self._settle(event.number, None)

    def piece(self, kind: EventType, data: Mapping[str, JsonValue]) -> None:
        """Publish an event that is not written down; dropped if the reserve is used up."""
        if self._next < self._reserved and not self.is_over:
            event = self.prepare(kind, data)
            self._pieces.append(event)
            self.publish(event)

    def output_complete(self) -> None:
        """The pieces so far are replaced by the output itself."""
        pieces = {event.number for event in self._pieces}
        self._pieces.clear()
        kept = [event for event in self._recent if event.number not in pieces]
        self._recent = deque(kept, maxlen=REMEMBERED_EVENTS)
        for number in pieces & self._ready.keys():  # behind an event that is being written
            self._ready[number] = None

    def close(self) -> None:
        """No more events will come: followers stop after the last."""
        self.is_over = True
        self._notify()

    async def follow(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Events with a number above `after`, from the past and then as they happen.

        The past is read a page at a time: a follower who is slow keeps no more of it.
        """
        while True:
            changed = self._changed
            page, after = await self._page(after)
            for event in page:
                yield event
            if self._published > after:
                continue
            if self.is_over:
                return
            await changed.wait()

    async def next_page(self, after: int) -> tuple[list[Event], bool]:
        """The next events with a number above `after` that have happened by now, and whether
        there are more."""
        while True:
            page, after = await self._page(after)
            has_more = self._published > after
            if page or not has_more:
                return page, has_more

    async def _page(self, after: int) -> tuple[list[Event], int]:
        """Some of the events above `after`, and the number up to which they are complete."""
        last = max(after, self._published)
        if after + 1 >= self._recent_first:
            return [event for event in self._recent if after < event.number <= last], last
        stored = await self._store.page_of_events(self._session_id, after)
        if stored.last is not None:
            last = min(last, stored.last)
        known = {event.number: event for event in (*stored.events, *self._recent, *self._pieces)}
        return [known[number] for number in sorted(known) if after < number <= last], last

    def _settle(self, number: int, event: Event | None) -> None:
        self._ready[number] = event
        while self._published + 1 in self._ready:
            self._published += 1
            ready = self._ready.pop(self._published)
            if ready is not None:
                if len(self._recent) == REMEMBERED_EVENTS:
                    self._recent_first = self._recent[0].number + 1
                self._recent.append(ready)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
