"""Runs an MCP server's process and passes its messages on, unless they are too long.

    python -I mcp_relay.py MOST_BYTES COMMAND [ARGUMENT...]

A process of its own, of the standard library alone: the client reads a whole line before it knows
how long it is. In place of an answer that is too long comes an error for its call; other messages
that are too long are left out. Input and errors are the server's own.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

_EDGE_BYTES = 4096
_PIECE_BYTES = 2**16
_ID = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{0,100}")'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
# The id is at one end of a message; those in its middle are the data's.
_FIRST = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID)
_LAST = re.compile(_ID + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*\Z")


def passed_on(output: IO[bytes], most_bytes: int) -> Iterator[bytes]:
    """The lines of an output, as they come; never more of one than fits is kept.

    Args:
        output: of the server.
        most_bytes: a line may have.
    """
    while line := output.readline(most_bytes + 1):
        if len(line) <= most_bytes or line.endswith(b"\n"):
            yield line
            continue
        first, last = line[:_EDGE_BYTES], line[-_EDGE_BYTES:]
        while not last.endswith(b"\n") and (piece := output.readline(_PIECE_BYTES)):
            last = (last + piece)[-_EDGE_BYTES:]
        if error := error_for(first, last, most_bytes):
            yield error


def error_for(first: bytes, last: bytes, most_bytes: int) -> bytes | None:
    """What the caller gets in place of an answer that is too long; None if it is none.

    Args:
        first: its beginning.
        last: its end.
        most_bytes: a message may have.
    """
    found = _FIRST.match(first) or _LAST.search(last)
    if found is None:
        return None
    message = b"the tool's server sent a message of more than %d bytes" % most_bytes
    return b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32603,"message":"%b"}}\n' % (
        found[1],
        message,
    )


def main() -> int:
    """Run the server until it ends; its exit status."""
    most_bytes, command = int(sys.argv[1]), sys.argv[2:]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            for line in passed_on(server.stdout, most_bytes):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            server.terminate()  # nobody reads it any more
    return server.returncode


if __name__ == "__main__":
    sys.exit(main())
