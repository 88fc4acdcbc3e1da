"""Bodies that are as large or as strange as an attacker can make them."""

import json
import random
from collections.abc import Iterator
from functools import cache

LIMIT = 16 * 2**20 - 4096
"""Bytes of the largest ones: just below the server's default limit."""

_HELLO = {"role": "user", "content": "hello"}


@cache
def largest() -> dict[str, bytes]:
    """Bodies of the size limit, by name; for sessions, and with `model` for chat completions."""
    return {
        "many messages": _filled('"messages":[', '{"role":"user","content":""}', "]"),
        "wrong messages": _filled('"messages":[', '{"role":"u"}', "]"),
        "deep nesting": b'{"model":"demo","messages":[{"role":"user","content":"x","m":'
        + b"[" * (LIMIT // 2 - 100)
        + b"]" * (LIMIT // 2 - 100)
        + b"}]}",
        "unclosed": b"[" * LIMIT,
        "one message": _filled(
            '"messages":[{"role":"user","content":"x', "lorem ipsum ", '"}]', ""
        ),
        "empty lists": _filled('"messages":[{"role":"user","content":"x","m":[', "[]", "]}]"),
        "metadata": _filled(
            '"messages":[{"role":"user","content":"x"}],"metadata":{', '"":""', "}"
        ),
        "digits": _filled('"messages":[{"role":"user","content":"x"}],"seed":1', "0", "", ""),
    }


def _filled(start: str, item: str, end: str, separator: str = ",") -> bytes:
    start = '{"model":"demo",' + start
    times = (LIMIT - len(start) - len(end) - 1) // (len(item) + len(separator))
    return (start + separator.join([item] * times) + end + "}").encode()


def with_server_tools(body: bytes) -> bytes:
    """The same for chat completions whose tools the server runs."""
    return body.replace(b'{"model":"demo",', b'{"model":"demo","caesura":{"tools":[]},', 1)


def session(text: str, **fields: object) -> bytes:
    """A new session whose user says this."""
    message = {"role": "user", "content": text}
    return _json({"messages": [message], "temperature": 0, **fields})


def chat(text: str = "hello", **fields: object) -> bytes:
    """A chat completion that is left to vLLM."""
    message = {"role": "user", "content": text}
    usual = {"model": "demo", "messages": [message], "temperature": 0, "max_tokens": 1}
    return _json({**usual, **fields})


def hostile_names(chance: random.Random) -> Iterator[bytes]:
    """Chat completions with names of what they wait for that are none."""
    names: list[object] = [
        *("a|b", "x" * 2**20, "\ud800", "a\nb: c", 'x"} 1\nforged 1', "天气" * 1000, "\x00", ""),
        *("human", "{}", "../../etc/passwd", 7, None, ["a"], {"a": "b"}, 1e308),
    ]
    while True:
        for name in names:
            yield chat(vllm_xargs={"caesura_endpoint": name})
        for _ in range(16):
            invented = f"invented-{chance.getrandbits(64):x}"
            yield chat(vllm_xargs={"caesura_endpoint": invented})
        history = [
            _HELLO,
            {"role": "assistant", "content": None, "tool_calls": [_call("天气", "{}")]},
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        ]
        yield _json({"model": "demo", "messages": history, "max_tokens": 1})


def hostile_tools() -> Iterator[bytes]:
    """Chat completions with definitions of tools that take long to read."""
    doubling = {
        **{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(24)},
        "d24": {"type": "string"},
    }
    itself: dict[str, object] = {"properties": {"a": {"$ref": "#"}}, "type": "object"}
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    schemas: list[dict[str, object]] = [
        {"type": "object", "$defs": doubling, "properties": {"q": {"$ref": "#/$defs/d0"}}},
        {"type": "object", "properties": {"q": {"type": "string", "pattern": "^(a+)+$"}}},
        {"type": "object", "properties": {"q": {"type": "string", "pattern": "(a|a?){60}b{9999}"}}},
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5000)}},
        {"type": "object", "properties": {"q": {"enum": [f"v{n}" for n in range(50_000)]}}},
        {"type": "array", "minItems": 10**9, "items": {"type": "null"}},
        itself,
        deep,
        {"type": 7, "properties": []},
    ]
    while True:
        for schema in schemas:
            for choice in ("auto", "required"):
                yield chat(tools=[_tool("look", schema)], tool_choice=choice)
        for name in ("x" * 2**20, "a b\n", "\ud800", "<|im_end|>", "[CALL]", ""):
            yield chat(tools=[_tool(name, {"type": "object"})])
        yield chat(tools=[_tool(f"t{n}", {"type": "object"}) for n in range(20_000)])


def _tool(name: str, parameters: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _call(name: str, arguments: str) -> dict[str, object]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
