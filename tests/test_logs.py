"""Caesura's log: shown by the processes that serve, and left alone in everybody else's."""

import logging
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caesura.logs import LEVEL_VARIABLE, configure_logging
from support.forks import FORKS

LINE = r"\(\w+ pid=\d+\) {level} \d\d-\d\d \d\d:\d\d:\d\d \[caesura\.tools\.mcp_server:\d+\] {text}"
SAY = """
log = logging.getLogger("caesura.tools.mcp_server")
log.debug("a detail"); log.info("a notice"); log.warning("a warning")
try:
    raise LookupError("no tool")
except LookupError:
    log.exception("a failure")
"""


def program_of(before: str) -> str:
    return f"""
import logging, sys
from caesura.logs import configure_logging
{before}
{SAY}
"""


def said(before: str, **environment: str) -> tuple[str, str]:
    """What a program prints that serves, and imports what vLLM's API server does."""
    clean = {name: text for name, text in os.environ.items() if "LOG" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program_of(before)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def run(program: str) -> None:
    exec(program, {})


def said_with_vllm(before: str, directory: Path) -> tuple[str, str]:
    outputs = directory / "out", directory / "err"
    process = FORKS.Process(target=run, args=(program_of(before),))
    with outputs[0].open("wb") as out, outputs[1].open("wb") as error:
        process.output = (out.fileno(), error.fileno())
        process.start()
    process.join()
    shown, other = (output.read_text() for output in outputs)
    assert process.exitcode == 0, other
    return shown, other


def lines(text: str, level: str, message: str) -> int:
    return len(re.findall(LINE.format(level=level, text=message), text))


SILENCING = "import model_hosting_container_standards.logging_config"


@pytest.mark.parametrize(
    "before",
    [
        f"configure_logging()\n{SILENCING}",
        f"{SILENCING}\nconfigure_logging()",
        f"{SILENCING}\nconfigure_logging()\nconfigure_logging()",
    ],
)
def test_a_root_logger_set_to_error_silences_nothing(before: str) -> None:
    shown, other = said(f"{before}\nassert logging.getLogger().level == logging.ERROR")
    assert lines(shown, "INFO", "a notice") == 1
    assert lines(shown, "WARNING", "a warning") == 1
    assert lines(shown, "ERROR", "a failure\nTraceback") == 1
    assert "a detail" not in shown
    assert not other


@pytest.mark.parametrize(
    ("level", "shown_levels"),
    [
        ("debug", ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ("WARNING", ["WARNING", "ERROR"]),
        ("ERROR", ["ERROR"]),
    ],
)
def test_the_level_comes_from_the_environment(level: str, shown_levels: list[str]) -> None:
    shown, _ = said(f"{SILENCING}\nconfigure_logging()", **{LEVEL_VARIABLE: level})
    assert re.findall(r"pid=\d+\) (\w+) ", shown) == shown_levels


def test_a_level_that_does_not_exist_is_told() -> None:
    shown, _ = said("configure_logging()", **{LEVEL_VARIABLE: "loud"})
    assert f"{LEVEL_VARIABLE}=LOUD is no level: give DEBUG, INFO, WARNING or ERROR" in shown
    assert lines(shown, "INFO", "a notice") == 1


def test_what_a_users_own_handler_prints_is_not_printed_twice() -> None:
    mine = "logging.basicConfig(level=logging.INFO, format='mine: %(message)s')"
    shown, other = said(f"{mine}\nconfigure_logging()")
    assert not shown
    assert [line for line in other.splitlines() if line.startswith("mine")] == [
        "mine: a notice",
        "mine: a warning",
        "mine: a failure",
    ]
    # That package raises the levels of such handlers, too.
    shown, other = said(f"{mine}\n{SILENCING}\nconfigure_logging()")
    assert lines(shown, "INFO", "a notice") == lines(shown, "WARNING", "a warning") == 1
    assert [line for line in other.splitlines() if line.startswith("mine")] == ["mine: a failure"]
    assert "a failure" not in shown


def test_a_handler_that_writes_elsewhere_takes_nothing_from_the_terminal() -> None:
    elsewhere = "import io; logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))"
    shown, _ = said(f"{elsewhere}\nconfigure_logging()")
    assert lines(shown, "INFO", "a notice") == 1


def test_a_users_own_configuration_of_the_logger_stays() -> None:
    mine = "log = logging.getLogger('caesura'); log.addHandler(logging.NullHandler())"
    shown, other = said(f"{mine}\nlog.setLevel(logging.ERROR)\nconfigure_logging()")
    assert not shown
    assert not other
    shown, _ = said("logging.getLogger('caesura').setLevel(logging.ERROR)\nconfigure_logging()")
    assert re.findall(r"pid=\d+\) (\w+) ", shown) == ["ERROR"]
    shown, _ = said(f"{SILENCING}\nconfigure_logging()", VLLM_CONFIGURE_LOGGING="0")
    assert not shown


def test_a_program_that_imports_caesura_keeps_its_logging(tmp_path: Path) -> None:
    """The engine's part too: only processes that vLLM has started for it are configured."""
    shown, other = said_with_vllm(
        "import caesura.server.plugin, caesura.engine.scheduler\n"
        "from caesura.logs import configure_engine_logging\n"
        "configure_engine_logging()\n"
        "log = logging.getLogger('caesura')\n"
        "assert not log.handlers and log.level == logging.NOTSET and log.propagate",
        tmp_path,
    )
    assert "caesura.tools.mcp_server" not in shown + other


def count_handlers_beside_an_engine() -> None:
    from engine.virtual.engine import Shape, VirtualEngine

    VirtualEngine(Shape(), random.Random(1))
    sys.exit(len(logging.getLogger("caesura").handlers))


def test_a_process_of_vllms_engine_shows_it() -> None:
    process = FORKS.Process(target=count_handlers_beside_an_engine, name="EngineCore_DP1")
    process.start()
    process.join()
    assert process.exitcode == 1


@pytest.mark.parametrize(
    "serving",
    [
        "from caesura.server.plugin import CaesuraPlugin; from fastapi import FastAPI\n"
        "CaesuraPlugin().attach_router(FastAPI())",  # `vllm serve`, too
        "from caesura.engine.config import CaesuraConfig\n"
        "from caesura.engine.serving import serve\n"
        "from caesura.errors import ConfigurationError\n"
        "try: serve.serve('model', CaesuraConfig(host_memory=2**60), [])\n"
        "except ConfigurationError: pass",
    ],
)
def test_a_process_that_serves_shows_it(serving: str, tmp_path: Path) -> None:
    one_handler = "assert len(logging.getLogger('caesura').handlers) == 1"
    shown, _ = said_with_vllm(f"{serving}\n{one_handler}", tmp_path)
    assert lines(shown, "INFO", "a notice") == 1


@pytest.fixture
def configured() -> Iterator[logging.Logger]:
    logger = logging.getLogger("caesura")
    handlers, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)  # whatever ran before in this process
    configure_logging()
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_pytest_sees_what_is_logged(
    configured: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    configured.getChild("server").info("a notice")
    assert caplog.messages == ["a notice"]
