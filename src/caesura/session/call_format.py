"""How models are told of calls in CML, and which protocol a session uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from pydantic import JsonValue

from caesura.cml import Mode
from caesura.session.calling import Codec
from caesura.session.records import INSTEAD_OF_CML, Message, Protocol, SessionSpec


class CallFormat(Codec, Interface):
    """A codec that makes prompts, too."""

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, JsonValue]],
        mode: Mode,
        expected_seconds: Mapping[str, float] | None = None,
    ) -> list[int]:
        """Tokens of a conversation, up to where the model answers.

        Raises:
            ValueError: the chat template refuses the messages; says why.
        """
        ...

    def grammar(self, tools: Sequence[Mapping[str, JsonValue]], mode: Mode) -> str | None:
        """What turns may be, for `Sampling.grammar`: no call but valid ones; None if that cannot
        be said."""
        ...

    def append(
        self, transcript: Sequence[int], messages: Sequence[Message], mode: Mode
    ) -> list[int]:
        """Tokens of the user's next messages, from the end of the model's turn on."""
        ...


@dataclass(frozen=True, slots=True)
class CallFormats:
    """The protocols that the served model can use, and which is used.

    Attributes:
        cml: None if the model has no marker tokens.
        protocol: what sessions use that do not say; None to choose by the model.
        function_calling: the mode of sessions that do not say; None for the model's own format.
        constrains: only valid calls can be written in CML, where the engine can see to that.
    """

    cml: CallFormat | None = None
    protocol: Protocol | None = None
    function_calling: Mode | None = None
    constrains: bool = False

    def settled(self, spec: SessionSpec) -> SessionSpec:
        """The same with its mode and protocol filled in, as they stay for its life.

        Raises:
            ValueError: the model cannot use them; says what to do.
        """
        mode = spec.function_calling or self.function_calling
        protocol = self._protocol(spec.protocol, mode)
        return spec.model_copy(update={"function_calling": mode, "protocol": protocol})

    def for_cml(self) -> CallFormat:
        """The format of sessions in CML.

        Raises:
            ValueError: the model has none; says what to do.
        """
        if self.cml is None:
            raise ValueError(_NO_MARKERS)
        return self.cml

    def _protocol(self, asked: Protocol | None, mode: Mode | None) -> Protocol:
        if mode is None:
            if asked not in (None, Protocol.NATIVE):
                raise ValueError(
                    f"protocol {asked} needs function_calling: sync, sync_parallel or async"
                )
            return Protocol.NATIVE
        protocol = asked or self.protocol
        if protocol is None:
            protocol = Protocol.CML if self.cml is not None else Protocol.FUTURES
        if protocol is Protocol.CML:
            self.for_cml()
        if protocol is Protocol.NATIVE and mode is Mode.ASYNC:
            raise ValueError(
                "function_calling async needs another protocol than native: futures, for models "
                "that only know their own tool-call format"
            )
        # Futures are for going on meanwhile; else the model's own format does what is asked.
        return (
            Protocol.NATIVE if protocol is Protocol.FUTURES and mode is not Mode.ASYNC else protocol
        )


_NO_MARKERS = (
    "this model was not trained for CML: its tokenizer has no tokens for [CALL], [INTR], [TRAP], "
    f"[HEAD] and [END]; {INSTEAD_OF_CML}"
)
