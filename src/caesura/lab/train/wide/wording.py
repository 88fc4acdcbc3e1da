"""The words of a task: how the user asks for what the calls give."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from caesura.cml.frames import JsonValue, json_text
from caesura.lab.train.held_out import is_held_out
from caesura.lab.train.wide import phrases
from caesura.lab.train.wide.tasks import GraphCall
from caesura.lab.train.wide.tools import SchemaTool, words_of

Choice = TypeVar("Choice")


class Wording:
    """One attempt to word a task.

    Args:
        source: of randomness.
        held_out: use templates, alone or together, that the other side never uses.
    """

    def __init__(self, source: random.Random, held_out: bool) -> None:
        self._source = source
        self._held_out = held_out
        self._picked: list[str] = []
        self._is_new = False

    @property
    def fits(self) -> bool:
        """Whether what was worded so far is on the wanted side of the hold-out."""
        template = "|".join(self._picked)
        return self._held_out == (self._is_new or is_held_out(template, 5))

    def pick(self, seen: Sequence[Choice], held_out: Sequence[Choice] = ()) -> Choice:
        """A template; of those held out only on that side."""
        is_new = bool(held_out) and self._held_out and self._source.random() < 0.4
        choice = self._source.choice(held_out if is_new else seen)
        self._is_new |= is_new
        self._picked.append(str(choice))
        return choice

    def subjects(
        self, calls: Sequence[GraphCall], tools: dict[str, SchemaTool]
    ) -> tuple[GraphCall, ...]:
        """The calls with the user's words for each; those of parents are in their children's."""
        worded: list[GraphCall] = []
        for call in calls:
            worded.append(replace(call, subject=self._subject(call, tools[call.tool], worded)))
        return tuple(worded)

    def question(self, wanted: Sequence[str], more: str = "") -> str:
        """The user's message.

        Args:
            wanted: what is asked for.
            more: a further sentence.
        """
        before, after = self.pick(phrases.OPENERS, phrases.HELD_OUT_OPENERS)
        closer = self.pick(phrases.CLOSERS, phrases.HELD_OUT_CLOSERS)
        text = wanted[0]
        for index, part in enumerate(wanted[1:], 2):
            text += (self.pick(phrases.JOINERS) if index == len(wanted) else ", ") + part
        if not before:
            text = text[0].upper() + text[1:]
        return before + text + after + (f" {more}" if more else "") + closer

    def _subject(self, call: GraphCall, tool: SchemaTool, worded: Sequence[GraphCall]) -> str:
        given = {made.parameter: made for made in call.inputs}
        arguments: dict[str, str] = {}
        for name, value in call.arguments.items():
            if name in given:
                parent = worded[given[name].parent].subject
                member = given[name].member
                arguments[name] = f"the {words_of(member)} in {parent}" if member else parent
            else:
                arguments[name] = spelled(value)
        if not arguments:
            return tool.topic
        if len(arguments) == 1:
            [(name, value_text)] = arguments.items()
            form = self.pick(phrases.ONE_ARGUMENT, phrases.HELD_OUT_ONE_ARGUMENT)
            return form.format(topic=tool.topic, name=words_of(name), value=value_text)
        form = self.pick(phrases.ARGUMENTS, phrases.HELD_OUT_ARGUMENTS)
        parts = [f"{words_of(name)} {text}" for name, text in arguments.items()]
        listed = ", ".join(parts[:-1]) + " and " + parts[-1]
        return form.format(topic=tool.topic, arguments=listed)


def spelled(value: JsonValue) -> str:
    """A value as the user writes it."""
    return value if isinstance(value, str) else json_text(value)
