"""What is compared side by side: how the calls of an answer are made and waited for."""

from enum import StrEnum

from caesura.cml import Mode


class Style(StrEnum):
    """One way to answer with calls.

    * `requests`: each call ends a request, and the next request has the whole conversation: chat
      completions of stock vLLM over HTTP, as most agents use them;
    * `sync`: the session pauses in place at each call;
    * `sync_parallel`: adjacent calls are a bundle; its calls are executed together when it is
      complete, and the session pauses;
    * `sync_parallel_eager`: the same, with each call executed from its end on;
    * `sync_fused`: a chain of calls is written as one call, which executes one after the other;
    * `sync_cached`: a call that was made before in the case takes no time;
    * `async`: generation goes on; results come as interrupts;
    * `futures`: the model's own format, each call answered at once with a future.
    """

    REQUESTS = "requests"
    SYNC = "sync"
    SYNC_PARALLEL = "sync_parallel"
    SYNC_PARALLEL_EAGER = "sync_parallel_eager"
    SYNC_FUSED = "sync_fused"
    SYNC_CACHED = "sync_cached"
    ASYNC = "async"
    FUTURES = "futures"

    @property
    def mode(self) -> Mode:
        """The mode of CML whose theory holds for it."""
        return _MODES.get(self, Mode.SYNC)

    @property
    def in_cml(self) -> bool:
        """Whether calls are written in CML; else in the model's own format."""
        return self not in (Style.REQUESTS, Style.FUTURES)


_MODES = {
    Style.SYNC_PARALLEL: Mode.SYNC_PARALLEL,
    Style.SYNC_PARALLEL_EAGER: Mode.SYNC_PARALLEL,
    Style.ASYNC: Mode.ASYNC,
    Style.FUTURES: Mode.ASYNC,
}

USUAL_STYLES = (Style.SYNC, Style.SYNC_PARALLEL, Style.ASYNC)
"""One for each mode of CML."""
