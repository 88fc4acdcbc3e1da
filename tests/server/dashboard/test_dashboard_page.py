"""The page in a real browser, with sessions that really run behind it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect
from prometheus_client import CollectorRegistry, Gauge

from caesura.server.owners import ANONYMOUS
from caesura.session.agents import Agents
from caesura.session.records import EventType
from caesura.tools.context import CallContext
from caesura.tools.human_endpoint import HumanEndpoint
from caesura.tools.settings import HumanTool
from session.workplace import eventually, spec, tool, until, workplace
from support.dashboard.browsers import CHROMIUM, chromium
from support.dashboard.stage import make_app, served

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="the dashboard's page needs Chromium: apt-get install chromium"
)

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
BOOKING = 'I book. <<book {"hotel": "Alfama"}>>\nall is booked'
KEY = "a key"
HUMAN = HumanTool(type="human")
# What the browser itself says of answers that a test wants.
EXPECTED = ("401 (Unauthorized)", "net::ERR_FAILED")


async def book(hotel: str) -> str:
    return f"{hotel}: {HOSTILE}"


async def number_of_nights(context: CallContext) -> str:
    schema = {
        "type": "object",
        "properties": {"nights": {"type": "integer", "minimum": 1}, "quiet": {"type": "boolean"}},
        "required": ["nights"],
    }
    answer = await context.ask_for_input("For how long?", schema)
    return str(answer.content)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright, chromium(playwright) as browser:
        yield browser


@asynccontextmanager
async def opened(
    browser: Browser,
    folder: Path,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    key: str | None = None,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[tuple[Page, Agents]]:
    """The dashboard of a server, and its sessions; whatever the page complains about fails."""
    tools = (tool(book, approve=True), tool(number_of_nights), HumanEndpoint("ask", HUMAN))
    async with workplace(folder / "db", *tools) as work:
        agents = Agents(work)
        app = make_app(work, agents, registry, keys=() if key is None else (key,))
        async with served(app) as url:
            page = await browser.new_page(
                viewport={"width": width, "height": 800}, color_scheme=scheme
            )
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: problems.extend(complaint(said)))
            await page.goto(f"{url}/dashboard/")
            try:
                yield page, agents
            finally:
                await page.close()
                await agents.stop()
            assert not problems


def complaint(said: ConsoleMessage) -> list[str]:
    """What the page or the browser complains of; breaches of the content policy among it."""
    if said.type != "error" or any(expected in said.text for expected in EXPECTED):
        return []
    return [said.text]


async def test_a_call_is_approved_and_its_session_goes_on(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(BOOKING, metadata={"title": "Trip"}))
        card = waiting(page)
        await expect(card).to_contain_text("Run book (tests:function)?")
        await expect(card).to_contain_text('"hotel": "Alfama"')
        await card.get_by_role("button", name="Approve").click()
        await until(agent, EventType.PHASE, phase="idle")
        await expect(card).to_have_count(0)
        await expect(page.locator(".log")).to_contain_text("all is booked")
        await expect(page.locator(".detail .pill")).to_have_text("Idle")
        await expect(page.locator(".row")).to_contain_text("Trip")


async def test_what_a_tool_returns_stays_text(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(BOOKING, metadata={"title": HOSTILE}))
        await waiting(page).get_by_role("button", name="Approve").click()
        await until(agent, EventType.PHASE, phase="idle")
        await page.locator(".log .call summary").click()
        await expect(page.locator(".log")).to_contain_text("<script>document.title")
        assert await page.locator("main img, main script").count() == 0
        await expect(page).to_have_title("Caesura")


async def test_a_call_is_refused_with_a_reason_by_keyboard_alone(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(BOOKING))
        await waiting(page).wait_for()
        await tab_to(page, "Refuse…")
        await page.keyboard.press("Enter")
        await page.keyboard.type("too dear")
        await page.keyboard.press("Enter")
        answered = await until(agent, EventType.ANSWERED)
        await expect(waiting(page)).to_have_count(0)
        assert await page.evaluate("document.activeElement !== document.body")
    assert answered.data["accepted"] is False
    assert answered.data["reason"] == "too dear"


async def test_a_question_is_answered_with_one_of_its_choices(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        plan = '<<ask {"question": "Which?", "choices": ["red", "blue"]}>>'
        agent = await agents.create(ANONYMOUS, spec(plan))
        await waiting(page).get_by_label("blue").check()
        await waiting(page).get_by_role("button", name="Answer").click()
        result = await until(agent, EventType.RESULT)
    assert result.data["content"] == "blue"


async def test_data_are_given_in_a_form_of_their_schema(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec("<<number_of_nights {}>>"))
        nights = waiting(page).get_by_role("spinbutton", name="nights")
        await nights.fill("0")
        await waiting(page).get_by_role("button", name="Answer").click()
        assert await nights.evaluate("input => input.validity.rangeUnderflow")
        await nights.fill("3")
        await waiting(page).get_by_label("quiet").check()
        await waiting(page).get_by_role("button", name="Answer").click()
        result = await until(agent, EventType.RESULT)
    assert result.data["content"] == "{'nights': 3, 'quiet': True}"


async def test_a_session_is_steered_paused_resumed_and_cancelled(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec("hello"))
        await until(agent, EventType.PHASE, phase="idle")
        await page.locator(".steer textarea").fill("and what else?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".log .user").last).to_contain_text("and what else?")
        await page.get_by_role("button", name="Pause", exact=True).click()
        await expect(page.locator(".detail .pill")).to_have_text("Paused by its user")
        assert agent.held
        await page.get_by_role("button", name="Resume", exact=True).click()
        await expect(page.locator(".detail .pill")).to_have_text("Idle")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await page.get_by_role("button", name="No", exact=True).click()
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await page.get_by_role("button", name="Yes, cancel it").click()
        await expect(page.locator(".detail .pill")).to_have_text("Cancelled")
        await expect(page.locator(".steer")).to_be_hidden()


async def test_the_timeline_has_a_bar_per_generation_and_call(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(BOOKING))
        waits = page.locator(".span.waits")
        await expect(waits).to_have_attribute("aria-label", re.compile(r"^Run book\?, for "))
        await waiting(page).get_by_role("button", name="Approve").click()
        await until(agent, EventType.PHASE, phase="idle")
        await expect(waits).to_have_attribute("aria-label", re.compile("accepted$"))
        await expect(page.locator(".span.generating")).to_have_count(2)
        await page.locator(".span.calling").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".log .call details")).to_have_attribute("open", "")


async def test_sessions_are_searched_and_filtered(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        for title in ("Trip to Lisbon", "Refund"):
            await agents.create(ANONYMOUS, spec("hello", metadata={"title": title}))
        ended = await agents.create(ANONYMOUS, spec("hello", keep_open=False))
        await until(ended, EventType.ENDED)
        rows = page.locator(".row")
        await expect(rows).to_have_count(3)
        await page.get_by_label("Search sessions").fill("lisb")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Search sessions").fill("")
        await page.get_by_label("Which sessions").select_option("ended")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("Completed")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_has_the_colours_that_the_system_asks_for(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    other = "dark" if scheme == "light" else "light"
    async with opened(browser, tmp_path, scheme=scheme) as (page, _):
        before = await background(page)
        assert (before > 600) == (scheme == "light")
        await page.get_by_label("Colours").select_option(other)
        assert ((await background(page)) > 600) == (other == "light")
        await page.reload()
        assert ((await background(page)) > 600) == (other == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    async with opened(browser, tmp_path, scheme=scheme) as (page, _):
        for ink in ("ink", "quiet", "accent", "danger"):
            for ground in ("page", "surface", "sunken"):
                assert await contrast(page, ink, ground) >= 4.5, (ink, ground)
        assert await contrast(page, "on-accent", "accent") >= 4.5


@pytest.mark.parametrize("width", [320, 390, 768, 1120, 1920])
async def test_nothing_needs_scrolling_to_the_side(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    async with opened(browser, tmp_path, width=width) as (page, agents):
        long = spec(BOOKING.replace("Alfama", "A" * 300), metadata={"title": "T" * 300})
        await agents.create(ANONYMOUS, long)
        await expect(page.locator(".approval")).to_have_count(2)  # in the list and in its session
        await expect(page.locator(".lane")).to_have_count(3)
        assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_on_a_phone_controls_are_large_enough_to_touch(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path, width=390) as (page, agents):
        await agents.create(ANONYMOUS, spec(BOOKING))
        await waiting(page).wait_for()
        heights = await page.locator("button:not(.link, .span), select, input").evaluate_all(
            "all => all.filter(one => one.checkVisibility()).map(one => one.offsetHeight)"
        )
    assert min(heights) >= 44


async def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path, key=KEY) as (page, _):
        await page.get_by_label("Key", exact=True).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-text")).to_contain_text("refused")
        await page.get_by_label("Key", exact=True).fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_have_text("Live")
        await page.reload()
        await expect(page.locator("#status")).to_have_text("Live")
        await expect(page.locator("#key")).to_be_hidden()


async def test_a_lost_connection_is_said_and_found_again(browser: Browser, tmp_path: Path) -> None:
    async with opened(browser, tmp_path) as (page, _):
        await expect(page.locator("#status")).to_have_text("Live")
        requested = asyncio.Event()
        await page.route("**/overview/events", lambda route: (requested.set(), route.abort())[1])
        await page.evaluate("location.reload()")
        await eventually(requested.is_set)
        await expect(page.locator("#status")).to_contain_text("next attempt")
        await page.unroute("**/overview/events")
        await expect(page.locator("#status")).to_have_text("Live")


async def test_whoever_approves_reads_what_was_asked_for(browser: Browser, tmp_path: Path) -> None:
    said = [("system", "You book."), ("user", "Book a hotel"), ("user", f"{BOOKING}\n{HOSTILE}")]
    messages = [{"role": role, "content": content} for role, content in said]
    async with opened(browser, tmp_path) as (page, agents):
        asked = spec("").model_copy(update={"messages": messages})
        agent = await agents.create(ANONYMOUS, asked)
        await expect(waiting(page)).to_contain_text(HOSTILE)
        await expect(page.locator(".detail h3")).to_have_text("Book a hotel")
        await expect(page.locator(".detail > .asked")).to_contain_text(HOSTILE)
        await expect(page.locator(".row .title")).to_have_text("Book a hotel")
        await expect(page.locator(".log .user")).to_have_count(2)
        await page.locator(".log summary", has_text="You book.").click()
        await expect(page.locator(".log pre", has_text="You book.")).to_be_visible()
        assert (await page.locator(".detail .head").inner_text()).count(agent.id) == 1
        await page.locator(".steer textarea").fill("a cheap one")
        await page.keyboard.press("Enter")
        await page.locator(".questions").get_by_role("button", name="Approve").click()
        await until(agent, EventType.PHASE, phase="idle")
        await expect(page.locator(".detail > .asked")).to_have_text("a cheap one")
        assert await page.locator("main img, main script").count() == 0


IS_SEEN = """
title => {
  const { left, top } = title.getBoundingClientRect();
  return document.elementFromPoint(left + 5, top + 5) === title;
}
"""


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_question_is_answered_where_its_session_is_shown(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    async with opened(browser, tmp_path, width=width) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(BOOKING, metadata={"title": "Trip"}))
        for _ in range(10):
            await agents.create(ANONYMOUS, spec("hello"))
        # Lower than a session is: its top is scrolled to, which the bar must not cover.
        await page.set_viewport_size({"width": width, "height": 480})
        await waiting(page).get_by_role("button", name="Show session").click()
        title = page.locator(".detail h3")
        await expect(title).to_have_text("Trip")
        await page.wait_for_function(IS_SEEN, arg=await title.element_handle())
        await page.locator(".questions").get_by_role("button", name="Approve").click()
        await until(agent, EventType.PHASE, phase="idle")
        await expect(page.locator(".approval")).to_have_count(0)
        assert await page.evaluate("document.activeElement !== document.body")


@pytest.mark.parametrize("width", [390, 768, 1280])
async def test_the_figures_leave_no_empty_cell(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    async with opened(browser, tmp_path, width=width) as (page, _):
        await expect(page.locator("#status")).to_have_text("Live")
        right = "one => one.getBoundingClientRect().right"
        edge = await page.locator("#figures").evaluate(right)
        last = await page.locator("#figures > :last-child").evaluate(right)
    assert edge - 2 <= last <= edge


DRAWN = """
const clear = CanvasRenderingContext2D.prototype.clearRect;
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.clearRect = function (...place) {
  this.canvas.texts = [];
  return clear.apply(this, place);
};
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  this.canvas.texts.push(text);
  return write.call(this, text, ...place);
};
"""


async def test_in_the_first_minute_no_time_stands_twice_below_a_chart(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, _):
        await page.add_init_script(DRAWN)
        await page.reload()
        await expect(page.locator("#status")).to_have_text("Live")
        canvas = page.locator(".chart canvas").first
        await canvas.wait_for()
        texts = await canvas.evaluate("canvas => canvas.texts")
    times = [text for text in texts if ":" in text]
    assert len(times) >= 3
    assert len(set(times)) == len(times)


async def test_a_little_memory_in_use_can_be_seen(browser: Browser, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    device_tokens = Gauge("caesura:device_tokens", "", ["engine"], registry=registry)
    device_tokens.labels("0").set(60_000)
    usage = Gauge("vllm:kv_cache_usage_perc", "", ["engine"], registry=registry).labels("0")
    usage.set(0.01)
    async with opened(browser, tmp_path, registry=registry) as (page, _):
        note = page.locator(".chart", has_text="Device memory").locator(".note").first
        await expect(note).to_have_text("tokens; the axis ends at 2 % of the capacity")
        usage.set(0.6)
        await expect(note).to_have_text("tokens; the axis ends at the capacity")


def waiting(page: Page) -> Locator:
    """The questions at the top of the page."""
    return page.locator("#approvals .approval")


async def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == name:
            return
    raise AssertionError(f"no Tab leads to {name}")


async def background(page: Page) -> int:
    """Sum of red, green and blue of the page."""
    shown = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", shown)[:3]))


async def contrast(page: Page, ink: str, ground: str) -> float:
    """Contrast ratio of two colours of the style sheets, as WCAG defines it."""
    colours = [
        await page.evaluate(
            "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()",
            f"--{name}",
        )
        for name in (ink, ground)
    ]
    lighter, darker = sorted(map(luminance, colours), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
