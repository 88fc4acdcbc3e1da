"""What sessions were asked for: in their events, their titles, and beside their questions."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caesura.server.sessions.views import LONGEST_TEXT, LONGEST_TITLE, title_of
from caesura.session.records import SessionSpec
from server.served import body, human, served, streamed

SYSTEM = {"role": "system", "content": "You sell tea."}
WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def title(*messages: dict[str, Any], **metadata: str) -> str | None:
    return title_of(SessionSpec(messages=list(messages), metadata=metadata))


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("Sell K4821")], "Sell K4821"),
        ([SYSTEM, user("\n  Sell\tthe  rest \nand say so")], "Sell the rest"),
        ([SYSTEM, user(" "), user("first"), user("second")], "first"),
        ([user([{"type": "text", "text": "in"}, {"type": "text", "text": "parts"}])], "in"),
        ([user(WORDS)], "one two three four five six seven eight nine ten eleven twelve thirteen…"),
        ([user(f"{'x' * 90} y")], f"{'x' * 79}…"),
        ([user("茶" * 90)], f"{'茶' * 79}…"),
        ([SYSTEM, {"role": "assistant", "content": "hello"}], None),
    ],
)
def test_a_title_is_the_first_line_of_the_users_first_message(
    messages: list[dict[str, Any]], expected: str | None
) -> None:
    assert title(*messages) == expected


def test_a_client_may_give_another() -> None:
    assert title(user("hello"), title="Order 7") == "Order 7"
    assert title(user("hello"), name="Order 8") == "Order 8"
    assert title(user("hello"), title="", purpose="x") == "hello"


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_title_is_short_and_one_line(text: str) -> None:
    shown = title(user(text))
    if not text.strip():
        assert shown is None
        return
    assert shown is not None
    assert 0 < len(shown) <= LONGEST_TITLE
    assert len(shown.splitlines()) == 1
    assert " ".join(text.split()).startswith(" ".join(shown.removesuffix("…").split()))


async def test_the_first_event_has_what_a_session_was_asked_for(tmp_path: Path) -> None:
    """As it was given, and whether it is streamed, listed or read after a restart."""
    parts = user([{"type": "text", "text": "Sell K4821"}])
    asked = {**body(""), "messages": [SYSTEM, parts, user("now")], "keep_open": False}
    async with served(tmp_path / "db") as server:
        made = (await server.client.post("/v1/sessions", json=asked)).json()
        place = f"/v1/sessions/{made['id']}"
        assert made["title"] == "Sell K4821"
        await server.until(made["id"], phase="ended")
        ((_, kind, data), *_) = await streamed(server.client, f"{place}/events")
        listed = (await server.client.get(f"{place}/events?stream=false")).json()["data"][0]
        stored = await server.work.store.events(made["id"])
    assert kind == listed["type"] == "session.created"
    for event in (data, listed):
        assert event["messages"] == asked["messages"]
        assert event["title"] == "Sell K4821"
        assert event["metadata"] == {}
    # Not stored twice: sessions that older versions have made show theirs in the same way.
    assert "messages" not in stored[0].data
    async with served(tmp_path / "db") as server:
        listed = (await server.client.get(f"{place}/events?stream=false")).json()["data"][0]
        assert listed["messages"] == asked["messages"]
        assert (await server.client.get("/v1/sessions")).json()["data"][0]["title"] == "Sell K4821"


async def test_a_question_comes_with_what_its_session_was_asked_for(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        asking = '<<ask {"question": "May I?"}>>'
        made = await server.session("hello")
        await server.until(made["id"], phase="idle")
        said_before = [user("Order 7, please"), user(asking)]
        other = await server.session("", messages=said_before, metadata={"title": "Order 7"})
        first = await server.asked()
        assert (first["session_title"], first["user_message"]) == ("Order 7", asking)
        said = {"content": f"{asking}\n{'x' * LONGEST_TEXT}"}
        await server.client.post(f"/v1/sessions/{made['id']}/messages", json=said)
        await server.until(made["id"], phase="calling")
        (_, second) = (await server.client.get("/v1/approvals")).json()["data"]
        assert second["session_id"] == made["id"]
        assert second["session_title"] == "hello"
        assert second["user_message"] == f"{said['content'][: LONGEST_TEXT - 1]}…"
        assert (await server.client.get(f"/v1/approvals/{second['id']}")).json() == second
        shown = (await server.client.get(f"/v1/sessions/{other['id']}")).json()
        assert shown["approvals"] == [first]
        refusal = {"accepted": False}
        answered = await server.client.post(f"/v1/approvals/{first['id']}", json=refusal)
        assert answered.json()["user_message"] == asking
