"""The CML frames of sessions in the scheduler: which sampled tokens are kept, and why a turn ends.

What is decided is in `caesura.cml.FrameWatch`. Here is what it needs of a request and of the model:
its rules, which tokens end a sequence, and the text of tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vllm import SamplingParams
from vllm.config import ModelConfig
from vllm.tokenizers import TokenizerLike, cached_tokenizer_from_config
from vllm.v1.request import Request

from caesura.cml import CallStop, Ending, FrameRules, FrameWatch, Verdict
from caesura.engine.protocol import BUNDLE_ENDED, FRAME_ENDED, FRAMES_ARGUMENT, INTERRUPTED

_STOP_TOKENS = "stop_token_ids"
_KEEPS_END = "keeps_end"


def frames_argument(
    rules: FrameRules, stop_token_ids: Sequence[int], *, keeps_end: bool = False
) -> dict[str, Any]:
    """The rules as they travel with a request, under `FRAMES_ARGUMENT`.

    Args:
        rules: of its frames.
        stop_token_ids: the client's own: vLLM adds those that end a sequence to them, and only
            these are cut off.
        keeps_end: these are part of the output, too, as vLLM has them.
    """
    more = {_STOP_TOKENS: list(stop_token_ids), _KEEPS_END: keeps_end}
    return {**asdict(rules), "calls": str(rules.calls), **more}


class TokenTexts:
    """The text of single tokens, with the white space that a tokenizer may drop at a start.

    Args:
        model_config: for the tokenizer, which is loaded when it is first needed.
    """

    def __init__(self, model_config: ModelConfig) -> None:
        self._model_config = model_config
        self._tokenizer: TokenizerLike | None = None
        self._before: list[int] = []
        self._texts: dict[int, str] = {}

    def __call__(self, token_id: int) -> str:
        """The token's text behind another one."""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = self._decode(token_id)
        return text

    def _decode(self, token_id: int) -> str:
        if self._tokenizer is None:
            self._tokenizer = cached_tokenizer_from_config(self._model_config)
        tokenizer = self._tokenizer
        self._before = self._before or tokenizer.encode("a", add_special_tokens=False)
        before = tokenizer.decode(self._before, skip_special_tokens=False)
        text = tokenizer.decode([*self._before, token_id], skip_special_tokens=False)
        return text[len(before) :]


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Where a turn ends among the tokens that a step sampled.

    Attributes:
        kept: so many of them are part of the session.
        discards: the next one is not, and is sampled anew; else the turn ends behind the last.
        stop_reason: of the turn.
    """

    kept: int
    discards: bool
    stop_reason: int | str


@dataclass(slots=True, eq=False)
class SessionFrames:
    """The watches of all sessions that have frames. They outlive preemption and pauses."""

    texts: TokenTexts
    _watches: dict[str, FrameWatch] = field(default_factory=dict, init=False)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._watches

    def is_empty(self) -> bool:
        """Whether no session is watched (integrity check)."""
        return not self._watches

    def begin_turn(self, session: Request) -> None:
        """A session has new tokens and sampling parameters: of a prompt or of an interrupt."""
        params = session.sampling_params
        argument = (params.extra_args or {}).get(FRAMES_ARGUMENT) if params is not None else None
        if params is None or argument is None:
            self._watches.pop(session.request_id, None)
            return
        rules, end_tokens = _rules(argument), _end_tokens(params, argument)
        watch = self._watches.get(session.request_id)
        if watch is None:
            self._watches[session.request_id] = FrameWatch(rules, end_tokens, self.texts)
        else:
            watch.begin_turn(rules, end_tokens)

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._watches.pop(request_id, None)

    def watch(
        self, request_id: str, token_ids: Sequence[int], *, interrupt_waits: bool
    ) -> TurnEnd | None:
        """Take tokens that were sampled for a session in one step.

        Returns:
            Where its turn ends; None if it goes on behind all of them.
        """
        watch = self._watches[request_id]
        for index, token_id in enumerate(token_ids):
            ruling = watch.feed(token_id, interrupt_waits=interrupt_waits)
            if ruling.ending is not None:
                discards = ruling.verdict is Verdict.STOP_BEFORE
                kept = index if discards else index + 1
                return TurnEnd(kept, discards, _stop_reason(ruling.ending, token_id))
        return None


def _rules(argument: Mapping[str, Any]) -> FrameRules:
    ours = (_STOP_TOKENS, _KEEPS_END)
    fields = {name: value for name, value in argument.items() if name not in ours}
    reasoning = fields.pop("reasoning")
    fields["calls"] = CallStop(fields["calls"])
    return FrameRules(**fields, reasoning=tuple(reasoning) if reasoning else None)


def _end_tokens(params: SamplingParams, argument: Mapping[str, Any]) -> frozenset[int]:
    """The model's tokens for the end of a sequence that are cut off; none if they are ignored."""
    if argument[_KEEPS_END]:
        return frozenset()
    ends = set(params.stop_token_ids or ()) - set(argument[_STOP_TOKENS])
    if params.eos_token_id is not None:
        ends.add(params.eos_token_id)
    return frozenset(ends)


def _stop_reason(ending: Ending, token_id: int) -> int | str:
    match ending:
        case Ending.SEQUENCE:
            return token_id
        case Ending.FRAME:
            return FRAME_ENDED
        case Ending.BUNDLE:
            return BUNDLE_ENDED
        case Ending.INTERRUPTED:
            return INTERRUPTED
