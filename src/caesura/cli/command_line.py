"""The command line of this process, to stand beside results."""

import shlex
import sys


def command_line() -> str:
    """What was typed."""
    return shlex.join(["caesura", *sys.argv[1:]])
