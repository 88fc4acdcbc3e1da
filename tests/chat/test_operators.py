"""An operator's chat: it lists what the sessions of others ask, and answers."""

from pathlib import Path

from caesura.server.keys import Key
from chat.chatting import chat, terminal
from server.served import human, served
from session.workplace import stored, tool

RAN: list[str] = []


def deploy(what: str) -> str:
    """Deploy."""
    RAN.append(what)
    return what


TOOLS = (tool(deploy, approve="operator"), human())
MAKER, OPERATOR = "key of anna", "key of olaf"
KEYS = (
    Key(Key.full(MAKER).digest, "anna", "anna", None, may_approve=False),
    Key(Key.full(OPERATOR).digest, "olaf", "olaf", None, may_approve=True),
)
AS_MAKER = {"Authorization": f"Bearer {MAKER}"}
PLAN = '<<deploy {"what": "prod"}>> <<ask {"question": "Which?"}>>\nend'


async def test_an_operator_lists_questions_of_others_and_answers_them(tmp_path: Path) -> None:
    RAN.clear()
    async with served(tmp_path / "db", *TOOLS, keys=KEYS) as server:
        server.client.headers.update(AS_MAKER)
        made = await server.session(PLAN, metadata={"title": "the \x1b[2J release"})
        found: list[dict[str, object]] = []

        async def both_wait() -> bool:
            found[:] = (await server.client.get("/v1/approvals?state=waiting")).json()["data"]
            return len(found) == 2

        await stored(both_wait)
        (asked,) = (each for each in found if each["kind"] == "approval")
        wrong = await chat("--url", server.url, "--api-key", OPERATOR, lines="/answer 1\n")
        assert wrong.status == 2
        assert "/questions" in wrong.notes
        lines = "/questions\n/answer 1\nn not today\n/questions\n/quit\n"
        done = await chat("--url", server.url, "--api-key", OPERATOR, lines=lines)
        assert done.status == 0, done.notes
        assert "1 deploy (tests:function) wants to run" in done.notes
        assert "    the �[2J release" in done.notes
        assert "Which?" not in done.notes, "that is for anna herself"
        assert "│ {" in done.notes, "all of it was shown before"
        assert f"answered; session {made['id']} goes on" in done.notes
        assert "nothing waits for you" in done.notes
        record = (await server.client.get(f"/v1/approvals/{asked['id']}")).json()
        assert (record["state"], record["answer"]["reason"]) == ("answered", "not today")
        assert record["answer"]["by"] == "olaf"
        again = await chat("--url", server.url, "--api-key", MAKER, lines="/questions\n")
        assert "ask (human) asks" in again.notes or "ask asks" in again.notes
    assert not RAN


async def test_a_terminal_says_what_waits_and_a_line_begun_before_is_no_answer(
    tmp_path: Path,
) -> None:
    RAN.clear()
    async with served(tmp_path / "db", *TOOLS, keys=KEYS) as server:
        server.client.headers.update(AS_MAKER)
        plan = '<<deploy {"what": "prod"}>>\nend'
        made = await server.session(plan)
        await server.asked()
        async with terminal("--url", server.url, "--api-key", OPERATOR) as screen:
            await screen.until("1 questions wait for a human")
            screen.type("/questions\r")
            await screen.until("1 deploy")
            screen.type("/answer 1\r")
            await screen.until("Run deploy")
            screen.type("y\r")
            await screen.until(f"answered; session {made['id']} goes on")
            screen.type("/quit\r")
            assert await screen.status() == 0
        await server.until(made["id"], phase="idle")
    assert RAN == ["prod"]
