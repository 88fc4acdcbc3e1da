"""A run as Responses has it."""

from caesura.server.answers.response_run import ResponseRun
from caesura.server.answers.run_reader import OutputDone, RunEnded, TextAdded
from caesura.session.records import SessionEnding


def test_a_run_that_ends_behind_an_output_that_was_to_go_on_closes_its_message() -> None:
    run = ResponseRun("session", "model", 0, {}, show_calls=False)
    run.take(TextAdded("Let me see."))
    run.take(OutputDone("Let me see.", "", continues=True))
    end = RunEnded(SessionEnding.LIMIT, "the session has had its 2 turns", cut=True)
    closing = [event["type"] for event in run.take(end)]
    run.ended(end, {})
    assert "response.output_text.done" in closing
    assert closing[-1] == "response.output_item.done"
    assert [item["status"] for item in run.response["output"]] == ["completed"]
