"""The files of the page."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from caesura.server.dashboard import dashboard
from caesura.server.dashboard.dashboard import STATIC

FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(dashboard.router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


async def test_the_short_address_leads_to_the_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/dashboard")
    assert response.status_code == 307
    page = await client.get(response.headers["location"])
    assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("js/main.js", "text/javascript"),
        ("css/page.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
        ("vendor/uPlot.iife.min.js", "text/javascript"),
    ],
)
async def test_files_have_their_type(client: httpx.AsyncClient, path: str, kind: str) -> None:
    response = await client.get(f"/dashboard/{path}")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kind)


async def test_the_page_may_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    policy = (await client.get("/dashboard/")).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert {rules[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}


@pytest.mark.parametrize(
    "path",
    ["no.js", "js", "../dashboard.py", "%2e%2e/dashboard.py", "..%2f..%2f..%2fcli.py", "%00"],
)
async def test_nothing_else_can_be_read(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/dashboard/{path}")).status_code == 404


@pytest.mark.parametrize("file", sorted(STATIC.glob("js/*.js")), ids=lambda file: file.name)
def test_no_module_makes_markup_of_text(file: Path) -> None:
    source = file.read_text()
    assert not [word for word in FORBIDDEN if word in source]
    assert source.count("\n") < 300
