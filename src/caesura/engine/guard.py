"""What no step of the engine and no output ends for: statistics, names and traces that fail."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Aside(StrEnum):
    """Work beside that of the engine. What is served is the same without it, token for token."""

    STATISTICS = "statistics"
    NAMES = "names"
    LEARNING = "learning"
    TRACE = "trace"


class Guard:
    """The one place where failures of such work are caught, counted, and logged once per kind.

    Args:
        count: counts a failure of a kind.
    """

    def __init__(self, count: Callable[[Aside], None]) -> None:
        self._catchers = {kind: _Catcher(kind, count) for kind in Aside}

    def __call__(self, kind: Aside) -> AbstractContextManager[None]:
        """A context manager that lets no exception out."""
        return self._catchers[kind]

    def wrap(self, kind: Aside, work: Callable[P, T], otherwise: T) -> Callable[P, T]:
        """The same work, with a result where it fails."""
        catcher = self._catchers[kind]

        @wraps(work)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            with catcher:
                return work(*args, **kwargs)
            return otherwise

        return guarded


class _Catcher(AbstractContextManager[None]):
    def __init__(self, kind: Aside, count: Callable[[Aside], None]) -> None:
        self._kind = kind
        self._count = count
        self._is_logged = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._count(self._kind)
        if not self._is_logged:
            self._is_logged = True
            logger.error(
                "%s failed, and the engine goes on; shown once", self._kind, exc_info=error
            )
        return True
