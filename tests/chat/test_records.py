"""The client's words are the server's."""

from caesura.chat.records import EventKind
from caesura.session.records import EventType


def test_every_event_of_a_session_is_known() -> None:
    assert {kind.name: kind.value for kind in EventKind} == {
        kind.name: kind.value for kind in EventType
    }
