"""Environment variables that are set for a while."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(values: Mapping[str, str], *, defaults: bool = False) -> Iterator[None]:
    """Set variables for this process and those that it starts, and put them back afterwards.

    Args:
        values: by name.
        defaults: whether variables that are already set keep their values.
    """
    if defaults:
        values = {name: os.environ.get(name, value) for name, value in values.items()}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
