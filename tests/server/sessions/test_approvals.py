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


@pytest.mark.parametrize("wrong", ["\ud800", float("nan"), float("-inf"), [["\udfff"]]])
@pytest.mark.parametrize("place", ["name", "value"])
async def test_data_that_nobody_could_read_again_are_refused(
    tmp_path: Path, wrong: Any, place: str
) -> None:
    async with served(tmp_path / "db", tool(form)) as server:
        await server.session("<<form {}>>\nend")
        asked = await server.asked()
        path = f"/v1/approvals/{asked['id']}"
        extra = {"more": wrong} if place == "value" else {str(wrong) + "\ud800": 1}
        answer = json.dumps({"accepted": True, "content": {"age": 3} | extra})
        headers = {"Content-Type": "application/json"}
        refused = await server.client.post(path, content=answer, headers=headers)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"].startswith("content")
        assert (await server.client.get(path)).json()["state"] == "waiting"


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


async def test_what_waits_is_listed_before_what_does_not_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path / "db", human()) as server:

        async def asked(text: str) -> tuple[str, str]:
            """A session, and its question once it waits."""
            made = await server.session(f'<<ask {{"question": "{text}"}}>>\nend')
            log = (await server.agents.agent("anonymous", made["id"])).events
            async for event in log.follow():
                if event.type == "approval.requested":
                    return made["id"], str(event.data["approval_id"])
            raise AssertionError("it ended")

        async def listed(**parameters: Any) -> list[str]:
            """The questions on all pages."""
            texts: list[str] = []
            while True:
                answer = await server.client.get("/v1/approvals", params=parameters)
                page = answer.json()
                texts += [approval["text"] for approval in page["data"]]
                if not page["has_more"]:
                    return texts
                last = page["data"][-1]
                parameters.pop("after", None)
                parameters["after" if last["state"] == "waiting" else "before"] = last["id"]

        questions = {text: await asked(text) for text in "abcdef"}
        for text in "ae":
            reply = {"accepted": True, "text": "yes"}
            await server.client.post(f"/v1/approvals/{questions[text][1]}", json=reply)
        await server.client.post(f"/v1/sessions/{questions['c'][0]}/cancel")

        for limit in (1, 2, 3, 100):
            assert await listed(limit=limit) == ["b", "d", "f", "e", "c", "a"]
            assert await listed(limit=limit, state="waiting") == ["b", "d", "f"]
            assert await listed(limit=limit, state="answered") == ["e", "a"]
        place = (await server.client.get(f"/v1/approvals/{questions['c'][1]}")).json()
        assert await listed(before=place["created_at"]) == ["a"]
        assert await listed(after=place["created_at"], state="waiting") == ["d", "f"]


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"state": "waiting", "before": 5}, "before"),
        ({"after": 5, "before": 5}, "before"),
        ({"state": "answered", "after": 5}, "after"),
        ({"limit": 0}, "limit"),
    ],
)
async def test_a_place_that_a_list_does_not_have_is_refused(
    tmp_path: Path, parameters: dict[str, Any], param: str
) -> None:
    async with served(tmp_path / "db") as server:
        answer = await server.client.get("/v1/approvals", params=parameters)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


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
