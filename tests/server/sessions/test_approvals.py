"""Routes of approvals: what is asked, and which answers are taken."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.served import form, human, served
from session.workplace import tool

QUESTION = '<<ask {"question": "tea or coffee?", "choices": ["tea", "coffee"]}>>\nend'


async def shutdown_now() -> str:
    """Turn it off."""
    return "off"


async def test_a_call_that_must_be_approved_runs_once_it_is(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(shutdown_now, approve=True)) as server:
        made = await server.session("<<shutdown_now {}>>\nend")
        asked = await server.asked()
        assert asked["kind"] == "approval"
        assert asked["tool"] == "shutdown_now"
        assert asked["session_id"] == made["id"]
        place = f"/v1/approvals/{asked['id']}"
        assert (await server.client.get(place)).json() == asked
        answered = (await server.client.post(place, json={"accepted": True})).json()
        assert answered["state"] == "answered"
        assert answered["answer"]["accepted"] is True
        assert answered["answered_at"] >= answered["created_at"]
        await server.until(made["id"], phase="idle", output_text="heard: off. end")


async def test_the_model_reads_why_a_call_was_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "db", tool(shutdown_now, approve=True)) as server:
        made = await server.session("<<shutdown_now {}>>\nend")
        asked = await server.asked()
        refusal = {"accepted": False, "reason": "not on a Monday"}
        await server.client.post(f"/v1/approvals/{asked['id']}", json=refusal)
        session = await server.until(made["id"], phase="idle")
        assert "not on a Monday" in session["output_text"]


@pytest.mark.parametrize(
    ("plan", "wrong", "right"),
    [
        (QUESTION, {"accepted": True}, {"accepted": True, "text": "tea"}),
        (QUESTION, {"accepted": True, "text": "milk"}, {"accepted": False}),
        ("<<form {}>>\nend", {"accepted": True}, {"accepted": True, "content": {"age": 3}}),
        (
            "<<form {}>>\nend",
            {"accepted": True, "content": {"age": "three"}},
            {"accepted": False, "reason": "secret"},
        ),
        ("<<form {}>>\nend", {"accepted": "perhaps"}, {"accepted": False}),
        ("<<form {}>>\nend", {"accepted": True, "contents": {}}, {"accepted": False}),
        (QUESTION, {"accepted": True, "text": "\ud800"}, {"accepted": False}),
    ],
)
async def test_an_answer_must_fit_its_question(
    tmp_path: Path, plan: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    async with served(tmp_path / "db", human(), tool(form)) as server:
        await server.session(plan)
        place = f"/v1/approvals/{(await server.asked())['id']}"
        refused = await server.client.post(
            place, content=json.dumps(wrong), headers={"Content-Type": "application/json"}
        )
        assert refused.status_code == 400, refused.text
        assert (await server.client.get(place)).json()["state"] == "waiting"
        assert (await server.client.post(place, json=right)).status_code == 200


async def test_a_question_is_answered_once(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        await server.session(QUESTION)
        place = f"/v1/approvals/{(await server.asked())['id']}"
        first = {"accepted": True, "text": "tea"}
        assert (await server.client.post(place, json=first)).status_code == 200
        again = await server.client.post(place, json={"accepted": True, "text": "coffee"})
        assert again.status_code == 409
        assert again.json()["error"]["code"] == "approval_answered"
        assert (await server.client.get(place)).json()["answer"]["text"] == "tea"


async def test_questions_of_a_session_that_ends_are_withdrawn(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        made = await server.session(QUESTION)
        place = f"/v1/approvals/{(await server.asked())['id']}"
        await server.client.post(f"/v1/sessions/{made['id']}/cancel")
        answer = await server.client.post(place, json={"accepted": True, "text": "tea"})
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "approval_withdrawn"
        for state, count in (("waiting", 0), ("withdrawn", 1), ("answered", 0)):
            listed = await server.client.get("/v1/approvals", params={"state": state})
            assert len(listed.json()["data"]) == count


async def test_a_question_waits_across_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:
        made = await server.session(QUESTION)
        asked = await server.asked()
    async with served(tmp_path / "db", human()) as server:
        assert await server.asked() == asked
        await server.client.post(
            f"/v1/approvals/{asked['id']}", json={"accepted": True, "text": "tea"}
        )
        await server.until(made["id"], phase="idle", output_text="heard: tea. end")
