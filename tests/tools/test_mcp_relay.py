"""Which messages of a server's process are passed on."""

import io
import json
import subprocess
import sys

import pytest

from caesura.tools.mcp_relay import __file__ as relay
from caesura.tools.mcp_relay import error_for, passed_on

MOST = 10_000


def lines(*messages: bytes) -> list[bytes]:
    return list(passed_on(io.BytesIO(b"".join(messages)), MOST))


def test_what_fits_is_passed_on_as_it_is() -> None:
    longest = b"x" * (MOST - 1) + b"\n"
    sent = [b'{"id":1}\n', longest, b"\n", b"the last one has no end"]
    assert lines(*sent) == sent


@pytest.mark.parametrize("size", [MOST, MOST + 1, 2 * MOST, 10 * MOST, 10 * MOST + 1])
def test_in_place_of_an_answer_that_is_too_long_comes_an_error(size: int) -> None:
    long = b'{"jsonrpc":"2.0","id":7,"result":"' + b"x" * size + b'"}\n'
    before, error, after = lines(b"before\n", long, b"after\n")
    assert (before, after) == (b"before\n", b"after\n")
    answer = json.loads(error)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    assert str(MOST) in answer["error"]["message"]


def test_an_answer_without_an_end_is_one_too() -> None:
    (error,) = lines(b'{"id":"a","result":"' + b"x" * 2 * MOST)
    assert json.loads(error)["id"] == "a"


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (b'{"jsonrpc": "2.0", "id": 5, "result": {"id": 6', b"}}\n", 5),
        (b' { "id" : "a-b" , "result": 1', b"}\n", "a-b"),
        (b'{"result":{"id":6,', b'"x":{"id":8}},"id":5}\n', 5),
        (b'{"result":{"id":6,', b'"x":1},"jsonrpc":"2.0","id":-5}', -5),
        (b'{"result":{"id":6,', b'"x":1},"id":5,"jsonrpc":"2.0"} \n', 5),
        (b'{"jsonrpc":"2.0","method":"notifications/message","params":{"id":1', b"}}\n", None),
        (b'{"result":{"id":6,', b'"x":{"id":8}}}\n', None),
        (b'{"id":null,"error":1', b"}\n", None),
    ],
)
def test_the_id_is_the_messages_own(first: bytes, last: bytes, expected: int | str | None) -> None:
    error = error_for(first, last, MOST)
    assert (None if error is None else json.loads(error)["id"]) == expected


def test_messages_that_are_no_answers_are_left_out() -> None:
    assert lines(b'{"method":"' + b"x" * MOST + b'"}\n', b"after\n") == [b"after\n"]


def test_the_process_is_as_the_server() -> None:
    """Its input, its status, and its arguments."""
    program = "import sys; print(sys.stdin.read(), *sys.argv[1:]); print('e', file=sys.stderr)"
    command = [sys.executable, "-I", relay, "100", sys.executable, "-c", f"{program}; sys.exit(3)"]
    done = subprocess.run([*command, "-x", "a b"], input="said", capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("said -x a b\n", "e\n", 3)
