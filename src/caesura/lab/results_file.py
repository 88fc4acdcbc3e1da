"""Files of results: valid at any moment, each with the command, the commit and the machine that
its figures are of.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from caesura.lab.machine import Machine, distribution_version, this_machine

_WHERE_RESULTS_GO = frozenset({"json_path", "output_dir", "trace_path", "data"})


@cache
def source_commit() -> str | None:
    """The commit of this source, and `-dirty` if it was changed since; None outside a checkout."""
    here = Path(__file__)
    tracked = ["git", "ls-files", "--error-unmatch", here.name]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # A package that is installed somewhere below another checkout is no part of it.
        subprocess.run(tracked, cwd=here.parent, check=True, capture_output=True)
        done = subprocess.run(describe, cwd=here.parent, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where figures come from.

    Attributes:
        command: the command line.
        machine: what they depend on.
        commit: of the source that ran, see `source_commit`.
        version: of Caesura.
    """

    command: str
    machine: Machine = field(default_factory=this_machine)
    commit: str | None = field(default_factory=source_commit)
    version: str | None = field(default_factory=partial(distribution_version, "caesura"))

    def entries(self, settings: object = None) -> dict[str, object]:
        """The first entries of a file.

        Args:
            settings: what was run, a dataclass or a pydantic model; None for nothing to say.
        """
        entries = asdict(self)
        if settings is not None:
            entries["settings"] = public_settings(settings)
        return entries


def write_results(
    path: Path, origin: Origin, figures: Mapping[str, object], settings: object = None
) -> None:
    """Write figures with their origin, instead of what the file had before.

    Raises:
        ValueError: a figure is not finite.
    """
    replace_json(path, {**origin.entries(settings), **figures})


def replace_json(path: Path, content: object) -> None:
    """Write JSON so that the file is replaced at once and is valid at any moment.

    Raises:
        ValueError: a number is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def public_settings(settings: object) -> dict[str, JsonValue]:
    """What was measured, without where results go; of paths only the last part."""
    dumped = TypeAdapter(type(settings)).dump_python(settings, mode="json")
    return dict(_public(dumped))


def _public(settings: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    for name, value in settings.items():
        if name in _WHERE_RESULTS_GO:
            continue
        if isinstance(value, str) and os.sep in value:
            path = Path(value)
            value = path.name if path.is_absolute() or path.exists() else value
        yield name, value
