"""Processes that do not outlive the one that started them."""

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess

_ENGINE = "EngineCore"
"""What vLLM calls the processes of its engines."""

_ENDED_WITH_PARENT = 1
_watched = threading.Event()


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that one ended.

    A parent that is killed cannot end its children, and they do not notice: a worker waits for work
    that never comes, and an engine keeps its device memory. In a process that `multiprocessing` did
    not start, nothing happens.
    """
    parent = multiprocessing.parent_process()
    if parent is None or _watched.is_set():
        return
    _watched.set()
    threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()


def end_engine_with_parent() -> None:
    """The same, if vLLM has started this process for its engine."""
    if multiprocessing.current_process().name.startswith(_ENGINE):
        end_with_parent()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    # Nobody is left to whom anything could be said, and the main thread may be waiting for ever.
    os._exit(_ENDED_WITH_PARENT)
