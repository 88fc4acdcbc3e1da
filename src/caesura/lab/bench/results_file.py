"""Files of results, rewritten while a benchmark runs."""

import json
import os
from pathlib import Path


def replace_json(path: Path, content: object, *, indent: int) -> None:
    """Write JSON so that the file is replaced at once and is valid at any moment.

    Raises:
        ValueError: a number is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
