"""What tools raise, in the log: complete, in bounds, and nothing that looks like the log itself."""

import logging
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from caesura.tools import Executor, Toolbox, ToolCall
from caesura.tools.call import CallEnding
from caesura.tools.foreign_log import log_raised
from session.workplace import tool
from support.tools.workbench import Journal

FORGED = "(APIServer pid=1) ERROR 11-30 10:00:00 [caesura:1] all is lost"
HOSTILE = f"\x1b[2Jno\n{FORGED}\r{FORGED}\u2028{FORGED}\x85\u202e"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    def log(message: str, error: Exception, *secrets: str) -> list[str]:
        with caplog.at_level(logging.ERROR):
            log_raised(logging.getLogger("caesura.tools"), message, error, frozenset(secrets))
        return caplog.messages[-1].split("\n")

    return log


def test_no_line_looks_like_one_of_the_log(logged: Callable[..., list[str]]) -> None:
    first, *rest = logged(f"call of {HOSTILE}", raised(ValueError(HOSTILE)))
    assert first.startswith("call of \\u001b[2Jno\\n(APIServer")
    assert rest[0] == "  | Traceback (most recent call last):"
    assert all(line.startswith("  | ") for line in rest)
    for character in "\x1b\r\u2028\x85\u202e":
        assert character not in "\n".join([first, *rest])
    assert sum(FORGED in line for line in rest) == 3, "all of it is there"


def test_what_is_long_is_cut_and_secrets_are_not_shown(logged: Callable[..., list[str]]) -> None:
    lines = logged("m", raised(ValueError("sk-secret " + "x" * 10**6)), "sk-secret")
    assert max(map(len, lines)) < 2100
    assert lines[-1].startswith("  | ValueError: *** x") or "sk-secret" not in "".join(lines)
    lines = logged("m", raised(ValueError("\n".join(map(str, range(10**5))))))
    assert len(lines) < 110
    assert lines[-1] == "  | 99999"
    assert any("lines" in line for line in lines)
    error: Exception = ValueError("deep")
    for _ in range(500):
        error = _caused(error)
    assert len(logged("m", error)) < 110
    assert "sk-secret" not in "".join(logged("m", raised(ValueError("sk-secret")), "sk-secret"))


def _caused(cause: Exception) -> Exception:
    try:
        raise RuntimeError("again") from cause
    except RuntimeError as error:
        return error


async def test_the_log_has_what_a_tool_raised_and_the_model_only_its_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> str:
        """Break."""
        raise LookupError(f"no row {HOSTILE}")

    toolbox = Toolbox({"broken": tool(broken)})
    executor = Executor(toolbox, registry=CollectorRegistry())
    result = await executor.execute(ToolCall("call_1", "broken", "{}", "sess_1"), Journal())
    assert result.ending is CallEnding.FAILED
    assert "LookupError" in result.content
    assert "no row" not in result.content
    (record,) = [each for each in caplog.records if each.name.startswith("caesura")]
    lines = record.getMessage().split("\n")
    assert record.exc_info is None
    assert " of broken failed" in lines[0]
    assert any("in broken" in line for line in lines), "where it was raised"
    assert any("LookupError: no row \\u001b[2Jno" in line for line in lines)
    assert all(line.startswith("  | ") for line in lines[1:])
