"""Commands among what is typed."""

import pytest

from caesura.chat.commands import Command, help_text, read_order


def test_a_message_is_no_command() -> None:
    assert read_order("what is /help?") is None


def test_a_command_has_the_rest_of_its_line() -> None:
    assert read_order("/open sess_1 ") == (Command.OPEN, "sess_1")
    assert read_order("/say /etc is a directory") == (Command.SAY, "/etc is a directory")


@pytest.mark.parametrize(
    ("line", "message"), [("/exit", "/help shows all"), ("/open", "/open ID"), ("/say ", "TEXT")]
)
def test_a_wrong_command_says_what_to_do(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_order(line)


def test_help_has_every_command() -> None:
    assert all(f"/{command} " in help_text() for command in Command)
