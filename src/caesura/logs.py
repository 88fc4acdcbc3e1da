"""Caesura's own log, for the processes that serve.

One of the packages that vLLM's API server imports sets the root logger to ERROR, so what the
logger `caesura` would inherit says nothing. It gets a level and a handler of its own. It still
propagates: logging that users have configured themselves sees every record, and our handler
leaves to it what it prints.
"""

import logging
import multiprocessing
import os
import sys

LEVEL_VARIABLE = "CAESURA_LOGGING_LEVEL"
_PROCESSES_OF_VLLM = ("EngineCore", "VllmWorker")
_LOGGER = logging.getLogger("caesura")
# As vLLM's lines, whose record factory knows the name of the process.
_LINE = (
    "(%(vllm_process_name)s pid=%(process)d) %(levelname)s %(asctime)s "
    "[%(name)s:%(lineno)d] %(message)s"
)
_TIME = "%m-%d %H:%M:%S"


def configure_logging() -> None:
    """Show Caesura's log in this process, beside vLLM's.

    The level is that of `CAESURA_LOGGING_LEVEL`, INFO by default. Whoever has given the logger
    `caesura` a handler, or has vLLM configure nothing (`VLLM_CONFIGURE_LOGGING=0`), keeps what
    they have.
    """
    if _LOGGER.handlers or os.environ.get("VLLM_CONFIGURE_LOGGING") == "0":
        return
    handler = logging.StreamHandler(sys.stdout)  # where vLLM's log goes
    handler.setFormatter(logging.Formatter(_LINE, _TIME, defaults={"vllm_process_name": "Caesura"}))
    handler.addFilter(_is_not_printed_elsewhere)
    _LOGGER.addHandler(handler)
    level = os.environ.get(LEVEL_VARIABLE, "").upper()
    is_known = level in logging.getLevelNamesMapping()
    if is_known or _LOGGER.level == logging.NOTSET:
        _LOGGER.setLevel(level if is_known else logging.INFO)
    if level and not is_known:
        _LOGGER.warning(
            "%s=%s is no level: give DEBUG, INFO, WARNING or ERROR", LEVEL_VARIABLE, level
        )


def configure_engine_logging() -> None:
    """The same, if vLLM has started this process for its engine. An engine in a user's own
    process leaves logging to them."""
    if multiprocessing.current_process().name.startswith(_PROCESSES_OF_VLLM):
        configure_logging()


def _is_not_printed_elsewhere(record: logging.LogRecord) -> bool:
    terminal = (sys.stdout, sys.stderr)
    return not any(
        isinstance(handler, logging.StreamHandler)
        and handler.stream in terminal
        and record.levelno >= handler.level
        for handler in logging.getLogger().handlers
    )
