"""Whether a question was answered: the right calls and no others, and their true results."""

import re
from collections import Counter

from caesura.lab.demo.agent.questions import AgentQuestion
from caesura.session.calling import CallSpan, Ending, Timeline

_LINE = re.compile(r"(\w+): (\w+)\.")


def mistakes(question: AgentQuestion, timeline: Timeline) -> list[str]:
    """All that is wrong with an answer; nothing, if it is right.

    Args:
        question: with what its tools return in this run's world.
        timeline: of a session that has ended.
    """
    wrong = [f"broke the protocol: {error}" for error in timeline.mistakes]
    if timeline.ending is not Ending.COMPLETED:
        wrong.append(f"did not end by itself: {timeline.message or timeline.ending}")
    made = Counter((call.name, _code(call)) for call in timeline.calls)
    wanted = Counter((call.tool, call.code) for call in question.calls)
    wrong += [f"did not call {tool} of {code}" for tool, code in (wanted - made).elements()]
    wrong += [f"called {tool} of {code}" for tool, code in (made - wanted).elements()]
    called = {call.id: (call.name, _code(call)) for call in timeline.calls}
    told = Counter(
        (*called.get(call_id, (call_id, "?")), value)
        for call_id, value in _LINE.findall(timeline.text)
    )
    true = Counter((call.tool, call.code, call.value) for call in question.calls if call.told)
    wrong += [f"did not say {_words(*line)}" for line in (true - told).elements()]
    wrong += [f"said {_words(*line)}" for line in (told - true).elements()]
    return wrong


def _code(call: CallSpan) -> str:
    return " ".join(map(str, call.arguments.values()))


def _words(tool: str, code: str, value: str) -> str:
    return f"{tool} of {code}: {value}"
