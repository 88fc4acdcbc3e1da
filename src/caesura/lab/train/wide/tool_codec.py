"""Tokens of a model that is told its tools in the prompt."""

from abc import abstractmethod
from collections.abc import Sequence

from caesura.cml import Mode
from caesura.lab.train.session_codec import SessionCodec
from caesura.lab.train.wide.tools import SchemaTool


class ToolCodec(SessionCodec):
    """A codec whose prompts list tools."""

    def prompt(self, question: str, mode: Mode) -> list[int]:
        """See `SessionCodec`: a prompt without tools."""
        return self.prompt_of(question, (), mode)

    @abstractmethod
    def prompt_of(self, question: str, tools: Sequence[SchemaTool], mode: Mode) -> list[int]:
        """A conversation that begins: mode, tools and the user's message."""

    @abstractmethod
    def continued(
        self, tokens: Sequence[int], question: str, tools: Sequence[SchemaTool], mode: Mode
    ) -> list[int]:
        """A conversation that goes on: its tokens, and the user's next message.

        Args:
            tokens: all so far, from the prompt to the token that ended the model's turn.
            question: the user's next message.
            tools: as in the prompt.
            mode: as in the prompt.
        """
