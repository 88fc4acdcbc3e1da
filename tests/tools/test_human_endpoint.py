import json
from pathlib import Path

from caesura.tools import Answer, CallEnding, QuestionKind
from support.tools.workbench import workbench

HUMAN = '[tools.ask]\ntype = "human"\n'


async def test_the_question_is_put_and_the_answer_is_the_result(tmp_path: Path) -> None:
    async with workbench(tmp_path, HUMAN) as bench:
        bench.journal.reply = Answer(True, text="blue")
        result = await bench.run("ask", '{"question": "Which?", "choices": ["red", "blue"]}')
        (question,) = bench.journal.questions
        assert not bench.journal.dispatched
    assert result.content == "blue"
    assert (question.kind, question.text) == (QuestionKind.QUESTION, "Which?")
    assert question.choices == ("red", "blue")


async def test_a_human_may_refuse(tmp_path: Path) -> None:
    async with workbench(tmp_path, HUMAN) as bench:
        bench.journal.reply = Answer(False)
        result = await bench.run("ask", '{"question": "Which?"}')
    assert result.ending is CallEnding.REFUSED


async def test_a_question_without_a_text_is_invalid(tmp_path: Path) -> None:
    async with workbench(tmp_path, HUMAN) as bench:
        result = await bench.run("ask", '{"choices": []}')
    assert result.ending is CallEnding.INVALID
    assert "question" in result.content
    assert "is a required property" in result.content


async def test_the_wait_ends_where_the_settings_say_so(tmp_path: Path) -> None:
    async with workbench(tmp_path, HUMAN + "timeout_seconds = 0.02\n") as bench:
        result = await bench.run("ask", '{"question": "Anybody?"}')
    assert result.ending is CallEnding.TIMED_OUT
    message = json.loads(result.content)["error"]["message"]
    assert message == "nobody answered within 0.02 seconds"
