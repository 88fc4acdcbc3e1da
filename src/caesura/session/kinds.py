"""The kinds of server-run sessions: by which protocol the model is told of calls."""

from collections.abc import Sequence

from pydantic import JsonValue

from caesura.cml import Mode
from caesura.session.agent import Agent
from caesura.session.cml_agent import CmlAgent
from caesura.session.futures_agent import FuturesAgent, futures_prompt
from caesura.session.records import (
    NO_PROMPTED,
    Phase,
    Protocol,
    SessionRecord,
    SessionSpec,
)
from caesura.session.turn_agent import TurnAgent
from caesura.session.workplace import Workplace

_KINDS: dict[Protocol | None, type[Agent]] = {
    Protocol.NATIVE: TurnAgent,
    Protocol.CML: CmlAgent,
    Protocol.FUTURES: FuturesAgent,
}


def agent_of(record: SessionRecord, transcript: Sequence[int], workplace: Workplace) -> Agent:
    """The agent of a session, by its protocol.

    Raises:
        KeyError: one of its tools is not configured any more.
        ValueError: the model does not know the protocol any more, or there is no such protocol.
    """
    spec = record.spec
    # Sessions of the first version had no mode and were native; a migration took away protocols
    # that were removed.
    if spec.protocol is None and spec.function_calling and record.phase is not Phase.ENDED:
        raise ValueError(NO_PROMPTED)
    kind = _KINDS.get(spec.protocol, TurnAgent)
    return kind(record, transcript, workplace)


def first_prompt(
    spec: SessionSpec, definitions: Sequence[dict[str, JsonValue]], workplace: Workplace
) -> list[int]:
    """The tokens that a session begins with.

    Raises:
        ValueError: the chat template refuses the messages.
    """
    match spec.protocol, spec.function_calling:
        case Protocol.CML, Mode() as mode:
            expected = workplace.executor.declared_seconds()
            made = workplace.formats.for_cml()
            return made.prompt(spec.messages, definitions, mode, expected)
        case Protocol.FUTURES, _:
            return futures_prompt(workplace.dialogue, spec.messages, definitions)
        case _:
            return workplace.dialogue.prompt(spec.messages, definitions)
