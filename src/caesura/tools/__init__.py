"""Tools that a server-run session calls, and the executor that runs the calls."""

from caesura.tools.call import (
    Answer,
    CallEnding,
    CallJournal,
    CallResult,
    Question,
    QuestionKind,
    ToolCall,
)
from caesura.tools.configuration import Configuration, load_configuration
from caesura.tools.context import CallContext
from caesura.tools.executor import Executor
from caesura.tools.failure import ToolError
from caesura.tools.retry import Timing
from caesura.tools.toolbox import Toolbox, open_toolbox

__all__ = [
    "Answer",
    "CallContext",
    "CallEnding",
    "CallJournal",
    "CallResult",
    "Configuration",
    "Executor",
    "Question",
    "QuestionKind",
    "Timing",
    "ToolCall",
    "ToolError",
    "Toolbox",
    "load_configuration",
    "open_toolbox",
]
