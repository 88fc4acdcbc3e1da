"""The command line: a file per command, and what they have in common.

Importing it, and `caesura --help`, imports neither vLLM nor the laboratory.
"""

from caesura.cli.main import main, run

__all__ = ["main", "run"]
