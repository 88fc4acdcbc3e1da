"""Runs an agent that is a command."""

import os
import subprocess
import sys
from pathlib import Path

from common import KEY


def run(name: str, *arguments: str) -> None:
    """Run it to its end, in this folder, and end as it does."""
    command = [str(Path(os.environ["CLIENT_COMMANDS"]) / name), *arguments]
    environment = os.environ | {"CLIENT_KEY": KEY}
    sys.exit(subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode)
