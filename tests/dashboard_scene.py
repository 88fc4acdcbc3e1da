"""Many sessions at work, for pictures of the dashboard: scripted agents, tools and an engine.

Time runs faster than on the wall, so that a quarter of an hour is there in a minute. What the
engine's memory would do with the contexts is worked out from the sessions themselves.

    python tests/dashboard_scene.py            serve it, to look at
    python tests/dashboard_scene.py PICTURES   write pictures of it to a folder
"""

import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from playwright.async_api import async_playwright, expect
from prometheus_client import CollectorRegistry
from pydantic import JsonValue

import dashboard_stage
from browsers import chromium
from caesura.server.dashboard.overview import Overviews
from caesura.server.owners import ANONYMOUS
from caesura.session.agents import Agents
from caesura.session.approvals import Approvals
from caesura.session.protocol import Delta, Sampling
from caesura.session.records import ApprovalState, Phase, SessionSpec
from caesura.session.store import Store
from caesura.session.workplace import Workplace
from caesura.tools.call import Answer
from caesura.tools.context import CallContext
from caesura.tools.endpoint import Definition, Endpoint
from caesura.tools.executor import Executor
from caesura.tools.human_endpoint import HumanEndpoint
from caesura.tools.retry import Timing
from caesura.tools.schema import ArgumentSchema
from caesura.tools.settings import HumanTool, PythonTool
from caesura.tools.toolbox import Toolbox
from dashboard_meter import EngineMeter
from fakes import FakeEngine, FakeStream
from session.scripted import ASSISTANT, END, ByteDialogue

SPEED = 20.0
SCENE_SECONDS = 900.0
PICTURES = (  # name, colours, width, height, pixels per CSS pixel
    ("dashboard", "light", 1440, 900, 1),
    ("dashboard-dark", "dark", 1440, 900, 1),
    ("dashboard-phone", "light", 390, 844, 2),
    ("dashboard-phone-dark", "dark", 390, 844, 1),
)
SYSTEM = "You work for the back office of a small company. Ask before you spend money."
PLANS = {  # by what the user asks for
    "Book a trip to Lisbon from 4 to 7 December.\nA direct flight in the morning, and a hotel near "
    "Alfama for less than 200 EUR a night.": (
        "I will look for flights first. "
        '<<search_flights {"from": "BER", "to": "LIS", "date": "2026-12-04"}>>',
        "The direct flight leaves at 06:40 and costs 148 EUR. Now a hotel near Alfama. "
        '<<search_hotels {"city": "Lisbon", "nights": 3, "district": "Alfama"}>>',
        "Memmo Alfama has a room. I book it. "
        '<<book_hotel {"hotel": "Memmo Alfama", "nights": 3, "price_eur": 486}>>',
        "All is booked: the flight at 06:40 on 4 December, and three nights at Memmo Alfama.",
    ),
    "The customer of order 8812 writes that the parcel never came. Look into it, and give the "
    "money back if it is lost.": (
        'Let me see the order. <<look_up_order {"order": 8812}>>',
        "The parcel was lost on 17 November, so a refund is due. "
        '<<refund {"order": 8812, "amount_eur": 59.9, "reason": "lost in transit"}>>',
        "The refund of 59.90 EUR is on its way, and the customer was told.",
    ),
    "Weekly sales report, please: week 47 against week 46, by region.": (
        "I query the warehouse. "
        '<<run_query {"sql": "SELECT region, SUM(net) FROM sales WHERE week = 47 GROUP BY 1"}>>',
        "Now the same for the week before. "
        '<<run_query {"sql": "SELECT region, SUM(net) FROM sales WHERE week = 46 GROUP BY 1"}>>',
        "One question before I write it up. "
        '<<ask {"question": "Are returns to be counted in the week of the sale or of the return?", '
        '"choices": ["Week of the sale", "Week of the return", "Show both"]}>>',
        "Sales rose by 4.1 % against week 46, above all in the north. The report is in the folder.",
    ),
    "test_reconnect is flaky in CI. Find out why, and fix it.": (
        'I run the test a few times. <<run_tests {"test": "test_reconnect", "times": 50}>>',
        "It fails in 3 of 50 runs, always after the second retry. "
        '<<read_file {"path": "client/retry.py"}>>',
        "The timer is not cancelled. I have a patch. "
        '<<run_tests {"test": "test_reconnect", "times": 200}>>',
        "Fixed: the retry timer is cancelled on close now, and 200 of 200 runs pass.",
    ),
    "Summary of the minutes of 20 November": (
        'I read the minutes. <<read_file {"path": "minutes/2026-11-20.md"}>>',
        "Three decisions were taken: the release moves to 2 December, the cache is turned on by "
        "default, and Ana takes over the on-call rota.",
    ),
    "Worker 7 is slow. Restart it if it must be.": (
        'I look at its metrics. <<run_query {"sql": "SELECT * FROM health WHERE worker = 7"}>>',
        "It leaks memory since 09:12. I would restart it. "
        '<<restart_worker {"worker": 7, "drain_seconds": 30}>>',
        "Worker 7 is back, and its memory is at 2.1 GiB.",
    ),
}
TOOLS = {  # seconds of the scene, from and to; whether a human must approve
    "search_flights": (6, 25, False),
    "search_hotels": (4, 18, False),
    "book_hotel": (3, 9, True),
    "look_up_order": (1, 3, False),
    "refund": (2, 5, True),
    "run_query": (8, 60, False),
    "run_tests": (40, 180, False),
    "read_file": (0.3, 1.5, False),
    "restart_worker": (20, 45, True),
}
RESULTS = {
    "search_flights": '{"flights": [{"departs": "06:40", "price_eur": 148}]}',
    "look_up_order": '{"order": 8812, "state": "lost", "total_eur": 59.9, "carrier": "DHL"}',
}


class SceneClock:
    """Seconds of the scene, as wall-clock time."""

    def __init__(self) -> None:
        self._speed = SPEED
        self._real = time.monotonic()
        self._start = time.time() - SCENE_SECONDS

    def __call__(self) -> float:
        return self._start + (time.monotonic() - self._real) * self._speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)

    def slow_down(self) -> None:
        """From now on as fast as on the wall."""
        self._start, self._real, self._speed = self(), time.monotonic(), 1.0


class PacedStream(FakeStream):
    """Generates about as fast as a model does."""

    clock: SceneClock

    async def deltas(self) -> AsyncIterator[Delta]:
        async for delta in super().deltas():
            await self.clock.sleep(0.25)  # a token of the script is a byte
            yield delta


class PacedEngine(FakeEngine):
    """A `FakeEngine` of such streams."""

    def __init__(self, clock: SceneClock) -> None:
        super().__init__(END, write)
        self._clock = clock

    async def open(
        self,
        session_id: str,
        token_ids: Sequence[int],
        sampling: Sampling,
        endpoint: str | None = None,
    ) -> FakeStream:
        stream = self.streams[session_id] = PacedStream(session_id, END, self.model, self.text_of)
        stream.clock = self._clock
        await stream.extend(token_ids, sampling, endpoint)
        return stream


def write(transcript: Sequence[int]) -> int:
    """The next byte of the plan for what the user asks for first."""
    history, _, written = bytes(transcript).rpartition(ASSISTANT)
    users = re.findall(rb"\x01user\n([^\x02]*)\x02", history)
    plan = PLANS.get(users[0].decode(), ()) if users else ()
    turns = history.count(ASSISTANT)
    line = plan[turns] if turns < len(plan) else "I have taken note of that."
    answer = line.encode()
    return answer[len(written)] if len(written) < len(answer) else END


class SceneTool(Endpoint):
    """Takes its time, and has the same result each time."""

    def __init__(self, name: str, clock: SceneClock, chance: random.Random) -> None:
        low, high, approve = TOOLS[name]
        settings = PythonTool(type="python", callable="scene:tool", approve=approve)
        super().__init__(Definition(name, name, ArgumentSchema({"type": "object"})), settings)
        self._seconds = lambda: chance.uniform(low, high)
        self._clock = clock

    @property
    def timeout_seconds(self) -> float:
        return 0

    async def call(self, arguments: Mapping[str, JsonValue], context: CallContext) -> str:
        await self._clock.sleep(self._seconds())
        return RESULTS.get(self.definition.name, '{"ok": true}')


@dataclass
class Scene:
    """What is needed to look at it."""

    work: Workplace
    agents: Agents
    registry: CollectorRegistry
    clock: SceneClock
    chance: random.Random
    meter: EngineMeter

    async def play(self, overviews: Overviews) -> None:
        """Sessions come, work, are answered and go, until the scene is as it is shown."""
        people = [asyncio.create_task(self._arrivals()), asyncio.create_task(self._human())]
        begun = self.clock()
        while self.clock() - begun < SCENE_SECONDS:
            self.meter.step(self.agents.running)
            await overviews.sample()
            await self.clock.sleep(1.0)
        for task in people:
            task.cancel()
        await asyncio.gather(*people, return_exceptions=True)
        self.clock.slow_down()

    async def _arrivals(self) -> None:
        requests = list(PLANS)
        for number in count():
            request = {"role": "user", "content": requests[number % len(requests)]}
            spec = SessionSpec(
                messages=[{"role": "system", "content": SYSTEM}, request],
                max_tokens=4000,
                keep_open=self.chance.random() < 0.35,
            )
            agent = await self.agents.create(ANONYMOUS, spec)
            if number % 11 == 7:
                await agent.steer("Please keep it short.")
            await self.clock.sleep(self.chance.expovariate(1 / 19))
            if number == 33 and agent.phase is not Phase.ENDED:
                await agent.hold(True)

    async def _human(self) -> None:
        """Answers after a while, but for what is left to whoever looks at the scene."""
        begun = self.clock()
        while self.clock() - begun < SCENE_SECONDS - 90:
            await self.clock.sleep(10)
            idle = [agent for agent in self.agents.running if agent.phase is Phase.IDLE]
            if idle and self.chance.random() < 0.3:
                await self.chance.choice(idle).steer("Thanks. Keep that for the next time.")
            for record in await self.work.store.approvals(ANONYMOUS, ApprovalState.WAITING):
                if self.clock() - record.created_seconds > self.chance.uniform(15, 120):
                    refuse = self.chance.random() < 0.15
                    reason = "Ask the customer first." if refuse else None
                    text = record.question.choices[0] if record.question.choices else None
                    answer = Answer(not refuse, text=text, reason=reason)
                    await self.agents.answer(ANONYMOUS, record.question.key, answer)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    clock, chance, registry = SceneClock(), random.Random(7), CollectorRegistry()
    store = Store(folder / "scene.db", clock)
    endpoints: dict[str, Endpoint] = {name: SceneTool(name, clock, chance) for name in TOOLS}
    endpoints["ask"] = HumanEndpoint("ask", HumanTool(type="human"))
    executor = Executor(Toolbox(endpoints), timing=Timing(now=clock), registry=registry)
    work = Workplace(PacedEngine(clock), ByteDialogue(), executor, store, Approvals(store))
    agents = Agents(work)
    await agents.start()
    try:
        yield Scene(work, agents, registry, clock, chance, EngineMeter(registry, clock))
    finally:
        await agents.stop()
        store.close()


async def pictures(url: str, folder: Path) -> None:
    async with async_playwright() as playwright, chromium(playwright) as browser:
        for name, scheme, width, height, scale in PICTURES:
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                device_scale_factor=scale,
                color_scheme=scheme,
            )
            await page.goto(f"{url}/dashboard/")
            await expect(page.locator("#status")).to_have_text("Live")
            row = page.locator(".row", has_text="Waiting for a human").first
            await row.click()
            await row.evaluate("row => row.previousElementSibling?.scrollIntoView()")
            await expect(page.locator(".log .entry").first).to_be_visible()
            await page.evaluate("scrollTo(0, 0)")
            await page.wait_for_timeout(1500)
            await page.screenshot(path=folder / f"{name}.png", full_page=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        async with scene(Path(scratch)) as shown:
            app = dashboard_stage.make_app(shown.work, shown.agents, shown.registry)
            async with dashboard_stage.served(app) as url:
                await shown.play(app.state.caesura_overviews)
                if len(sys.argv) > 1:
                    await pictures(url, Path(sys.argv[1]))
                else:
                    print(f"{url}/dashboard/", flush=True)
                    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
