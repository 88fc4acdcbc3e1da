"""What the demo asks, with codes that are new at each run, and the answers that are right."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from caesura.bundled.demo_tools import TOOL_BY_NAME, Kind, draw_value
from caesura.bundled.world import ARCHIVED, World, usual_seconds
from caesura.lab.train.held_out import is_held_out


@dataclass(frozen=True, slots=True)
class WantedCall:
    """A call that answers a question, or a part of it.

    Attributes:
        tool: its name.
        code: its argument.
        value: its result.
        told: the result is part of the answer; else only the next call needs it.
    """

    tool: str
    code: str
    value: str
    told: bool = True


@dataclass(frozen=True, slots=True)
class AgentQuestion:
    """A question with its answer.

    Attributes:
        title: what it shows.
        text: the question.
        calls: all that must be called.
    """

    title: str
    text: str
    calls: tuple[WantedCall, ...]

    @property
    def tools_seconds(self) -> float:
        """What the tools of its calls usually take, one after the other."""
        return sum(usual_seconds(call.tool, call.code) for call in self.calls)


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of question.

    Attributes:
        title: what it shows.
        text: with places for codes.
        calls: the tool and the number of the code, for each call; of two tools the second takes
            the result of the first.
        archived: numbers of the codes that are archived orders.
    """

    title: str
    text: str
    calls: tuple[tuple[tuple[str, ...], int], ...]
    archived: frozenset[int] = frozenset()


_FORMS = (
    _Form(
        "three tools",
        "Tell me the owner of {0}, the status of {1} and the stock of {2}.",
        ((("owner",), 0), (("status",), 1), (("stock",), 2)),
    ),
    _Form(
        "one tool, three times",
        "What is the phone number of {0}, {1} and {2}?",
        ((("phone",), 0), (("phone",), 1), (("phone",), 2)),
    ),
    # Two chains of unequal steps would show the same. The bundled model can follow only one.
    _Form(
        "a chain beside a slow call",
        "I need the phone number of the owner of {0}, and the status of {1}.",
        ((("owner", "phone"), 0), (("status",), 1)),
        archived=frozenset({1}),
    ),
    _Form(
        "a chain: nothing to overlap",
        "I need the phone number of the owner of {0}.",
        ((("owner", "phone"), 0),),
    ),
    _Form(
        "a chain beside a quick call",
        "I need the phone number of the owner of {0}, and the status of {1}.",
        ((("owner", "phone"), 0), (("status",), 1)),
    ),
    _Form(
        "two tools, one order",
        "Please find the carrier and the status of {0}.",
        ((("carrier",), 0), (("status",), 0)),
    ),
    _Form(
        "quick tools",
        "What is the price of {0}, {1} and {2}?",
        ((("price",), 0), (("price",), 1), (("price",), 2)),
    ),
)


def questions(world: World, seed: int, count: int) -> list[AgentQuestion]:
    """Draw questions; the first `len(_FORMS)` are of different kinds."""
    source = random.Random(f"{seed} questions")
    return [_question(_FORMS[index % len(_FORMS)], world, source) for index in range(count)]


def _question(form: _Form, world: World, source: random.Random) -> AgentQuestion:
    codes: dict[int, str] = {}
    for (first, *_), place in form.calls:
        if place not in codes:
            kind = TOOL_BY_NAME[first].takes
            codes[place] = _new_code(kind, source, codes, place in form.archived)
    text = form.text.format(*(codes[place] for place in sorted(codes)))
    calls = tuple(
        call for tools, place in form.calls for call in _wanted(tools, codes[place], world)
    )
    return AgentQuestion(form.title, text, calls)


def _new_code(kind: Kind, source: random.Random, codes: dict[int, str], archived: bool) -> str:
    def fits(code: str) -> bool:
        return (
            is_held_out(code)
            and code not in codes.values()
            and archived is (kind is Kind.ORDER and code.startswith(ARCHIVED))
        )

    return draw_value(kind, source, fits)


def _wanted(tools: tuple[str, ...], code: str, world: World) -> Iterator[WantedCall]:
    for tool in tools:
        value = world.value(tool, code)
        yield WantedCall(tool, code, value, told=tool == tools[-1])
        code = value
