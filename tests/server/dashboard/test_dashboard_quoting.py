"""What the page shows of a call that waits for a human is what the tool gets."""

import json
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from caesura.console import visible
from caesura.server.owners import ANONYMOUS
from caesura.session.agents import Agents
from caesura.session.records import EventType
from caesura.tools.context import CallContext
from session.workplace import spec, tool, until, workplace
from support.dashboard.browsers import CHROMIUM, chromium
from support.dashboard.stage import make_app, served

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="the dashboard's page needs Chromium: apt-get install chromium"
)

LONG = {"path": "/srv", "note": "x" * 700, "n": 2**63 + 1, "share": 0.1}
ATTACK = 'x": "/tmp"}\n\nRun list?\u202e\u3164\U000e0041'


async def delete(path: str, note: str = "", n: int = 0, share: float = 0.0) -> str:
    """Delete a folder."""
    return json.dumps([path, note, n, share])


async def ask(context: CallContext) -> str:
    """Ask what a server asks that nobody should trust."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "title": ATTACK, "default": "root\u200b"}},
    }
    return str((await context.ask_for_input(ATTACK, schema)).content)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright, chromium(playwright) as browser:
        yield browser


@asynccontextmanager
async def opened(browser: Browser, folder: Path) -> AsyncIterator[tuple[Page, Agents]]:
    async with workplace(folder / "db", tool(delete, approve=True), tool(ask)) as work:
        agents = Agents(work)
        async with served(make_app(work, agents)) as url:
            page = await browser.new_page()
            await page.goto(f"{url}/dashboard/")
            try:
                yield page, agents
            finally:
                await page.close()
                await agents.stop()


async def lines(area: Locator) -> list[str]:
    return await area.locator(".line").all_text_contents()


@pytest.fixture(scope="module")
async def page_and_loop(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Page]:
    async with opened(browser, tmp_path_factory.mktemp("page")) as (page, _):
        yield page


def texts() -> list[str]:
    """Random texts, and every character that is not one for sure."""
    drawn: list[str] = []

    @settings(
        max_examples=300,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text(st.characters(codec="utf-8", exclude_categories=("Cn", "Co")), max_size=40))
    def draw(text: str) -> None:
        drawn.append(text)

    draw()
    every = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in {"Cn", "Cs", "Co"}
    ]
    blocks = ["a".join(every[at : at + 1000]) for at in range(0, len(every), 1000)]
    return [*drawn, *blocks, "e" + "\u0334" * 9]


async def test_the_page_hides_no_more_than_the_terminal(page_and_loop: Page) -> None:
    given = texts()
    shown = await page_and_loop.evaluate(
        "async (texts) => texts.map((await import('./js/quoting.js')).visible)", given
    )
    assert shown == [visible(text) for text in given]


async def test_a_call_is_shown_with_every_character_and_digit_that_the_tool_gets(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        agent = await agents.create(ANONYMOUS, spec(f"<<delete {json.dumps(LONG)}>>\ndone"))
        card = page.locator("#approvals .approval")
        area = card.get_by_label("Arguments")
        await expect(area).to_contain_text('"path": "/srv"')
        assert "9223372036854775809" not in "".join(await lines(area))
        more = card.get_by_role("button", name="more characters")
        await expect(more).to_contain_text("Show 1")
        await more.click()
        assert json.loads("\n".join(await lines(area))) == LONG
        await expect(card).to_contain_text("Run delete (tests:function)?")
        await card.get_by_role("button", name="Approve").click()
        done = await until(agent, EventType.RESULT)
        assert json.loads(str(done.data["content"])) == [*LONG.values()]


async def test_nothing_that_a_server_asks_looks_like_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    async with opened(browser, tmp_path) as (page, agents):
        await agents.create(ANONYMOUS, spec("<<ask {}>>\ndone"))
        card = page.locator("#approvals .approval")
        await expect(card.get_by_role("textbox").first).to_be_visible()
        assert await lines(card.get_by_label("Question", exact=True)) == visible(ATTACK).split("\n")
        await expect(card.locator("label.above", has_text="Run list?")).to_contain_text(
            r"\u202e\u3164\udb40\udc41"
        )
        field = card.get_by_role("textbox").first
        await expect(field).to_have_value("")  # not a name that ends in what nobody sees
        shown = await card.inner_text()
        assert not set(shown) & set("\u202e\u3164\U000e0041\u200b")
