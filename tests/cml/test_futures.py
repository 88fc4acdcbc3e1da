import json

from hypothesis import given
from jsonschema_rs import Draft202012Validator

from caesura.cml import futures
from support.cml.streams import json_values


def test_a_call_is_answered_at_once_with_a_future() -> None:
    assert json.loads(futures.pending_text("f1")) == {"future": "f1", "status": "pending"}
    assert json.loads(futures.pending_text("f1", expected_seconds=2.5)) == {
        "future": "f1",
        "status": "pending",
        "expected_seconds": 2.5,
    }


@given(json_values)
def test_whatever_a_tool_returns_stays_a_value(value) -> None:
    text = futures.ready_text("f1", value)
    assert json.loads(text) == {"future": "f1", "status": "ready", "value": value}


def test_a_failed_call_says_so() -> None:
    assert json.loads(futures.failed_text("f1", "timed_out", "no answer")) == {
        "future": "f1",
        "status": "failed",
        "error": {"type": "timed_out", "message": "no answer"},
    }


def test_a_wait_for_no_future_is_told_which_there_are() -> None:
    error = json.loads(futures.unknown_text("f9", ["f1", "f2"]))["error"]
    assert error == {
        "type": "unknown_future",
        "message": "There is no such future. Pending: f1, f2.",
    }
    assert "Pending: none." in futures.unknown_text("f9", [])


def test_the_tool_that_waits_takes_a_future() -> None:
    function = futures.await_tool()["function"]
    assert function["name"] == futures.AWAIT_TOOL
    assert futures.AWAIT_TOOL in futures.SYSTEM_PROMPT
    validator = Draft202012Validator(function["parameters"])
    assert validator.is_valid({"future": "f1"})
    assert not validator.is_valid({})
    assert not validator.is_valid({"future": 1})


def test_the_prompt_shows_the_texts_as_they_are() -> None:
    assert futures.pending_text("f1") in futures.SYSTEM_PROMPT
    shown = futures.ready_text("f1", 0).replace("0}", "...}")
    assert shown in futures.SYSTEM_PROMPT
