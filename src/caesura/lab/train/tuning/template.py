"""A model's chat template, extended by CML: the variable `function_calling` names the mode.

With it, a block of text with the protocol, the mode and the tools goes before the conversation, and
the model's own way to list tools is left out. Without it the template is what it was.
"""

from typing import Any

from caesura.cml import Mode
from caesura.errors import ConfigurationError

MODE_VARIABLE = "function_calling"
_BEGIN, _END = "{#- CML: begin -#}", "{#- CML: end -#}"

_PROTOCOL = """\
You call tools while you write.
[CALL]id[HEAD]{"name": ..., "arguments": {...}}[END] is a call, under an id of yours.
[INTR]id[HEAD]value[END] is what arrives: the result of a call, or under the id user a message.
[TRAP][END] waits for what is missing."""

_AT_A_CALL = {
    Mode.SYNC: "Mode sync: you are paused at each call until its result is there.",
    Mode.SYNC_PARALLEL: (
        "Mode sync_parallel: calls that follow each other run together, up to [TRAP][END]."
    ),
    Mode.ASYNC: (
        "Mode async: calls run while you go on, and results arrive at any time. Make every call "
        "as soon as you can, the longest first."
    ),
}

_QUESTION, _ANSWER, _NEXT, _SYSTEM = "cml-question", "cml-answer", "cml-next", "cml-system"


def extended(template: str, takes_system: bool) -> str:
    """The template with the CML block before it. A block that it has already is replaced.

    Args:
        template: the model's own.
        takes_system: whether it accepts a system message; else the block goes into the user's
            first.
    """
    if template.startswith(_BEGIN):
        template = template.split(_END, 1)[1]
    role = "system" if takes_system else "user"
    modes = "{%- elif ".join(
        f"{MODE_VARIABLE} == '{mode.value}' -%}}{{{{- {text!r} -}}}}\n"
        for mode, text in _AT_A_CALL.items()
    )
    quoted = "".join(
        f".replace('[{name}]', '[~{name}]')" for name in ("CALL", "INTR", "TRAP", "HEAD", "END")
    )
    head = f"""\
{_BEGIN}
{{%- if {MODE_VARIABLE} is defined and {MODE_VARIABLE} -%}}
{{%- set cml_block -%}}
{{{{- {_PROTOCOL!r} -}}}}
{{{{- '\\n' -}}}}
{{%- if {modes}{{%- else -%}}
{{{{- raise_exception('{MODE_VARIABLE} must be sync, sync_parallel or async') -}}}}
{{%- endif -%}}
{{%- if tools -%}}
{{{{- '\\nTools:' -}}}}
{{%- for tool in tools -%}}
{{%- set tool = tool.function if tool.function is defined else tool -%}}
{{%- set described = tool.name ~ ': ' ~ (tool.description or '') ~ '\\n  Parameters: ' -%}}
{{%- set described = described ~ (tool.parameters or {{}}) | tojson -%}}
{{{{- '\\n- ' ~ described{quoted} -}}}}
{{%- endfor -%}}
{{%- endif -%}}
{{%- endset -%}}
{{%- set tools = none -%}}
{{%- if messages and messages[0].role == '{role}' -%}}
{{%- set cml_first = messages[0].content -%}}
{{%- if cml_first is not string -%}}
{{%- set cml_first = cml_first | map(attribute='text') | join('\\n') -%}}
{{%- endif -%}}
{{%- set messages = [{{'role': '{role}', 'content': cml_block ~ '\\n\\n' ~ cml_first}}] \
+ messages[1:] -%}}
{{%- else -%}}
{{%- set messages = [{{'role': '{role}', 'content': cml_block}}] + messages -%}}
{{%- endif -%}}
{{%- endif -%}}
{_END}"""
    return head + template


def takes_system_message(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template shows a system message."""
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": _QUESTION},
    ]
    try:
        return _SYSTEM in _rendered(tokenizer, messages)
    except Exception:  # whatever the template raises: it says that it takes none
        return False


def end_of_answer(tokenizer: Any, **variables: object) -> str:
    """What the template puts between an answer and the user's next message, with both cut off.

    Raises:
        ConfigurationError: the template cannot be used for conversations.
    """
    messages = [
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _NEXT},
    ]
    try:
        text = _rendered(tokenizer, messages, **variables)
    except Exception as error:
        raise ConfigurationError(
            f"the chat template refuses a conversation of three messages: {error}"
        ) from error
    if text.count(_ANSWER) != 1 or text.count(_NEXT) != 1:
        raise ConfigurationError(
            "the chat template does not show each message once: give another with --chat-template"
        )
    return text.split(_ANSWER)[1].split(_NEXT)[0]


def after_question(tokenizer: Any, **variables: object) -> str:
    """What the template puts between the user's message and the answer."""
    text = _rendered(tokenizer, [{"role": "user", "content": _QUESTION}], **variables)
    return text.split(_QUESTION)[-1]


def _rendered(tokenizer: Any, messages: list[dict[str, str]], **variables: object) -> str:
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **variables
    )
    return text
