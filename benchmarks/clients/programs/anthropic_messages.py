"""Anthropic's client, with more tokens than the model has."""

from anthropic import Anthropic
from common import CITY, KEY, MODEL, NAMES, SYSTEM, URL, question, run

client = Anthropic(base_url=URL, api_key=KEY)
tools = [{"name": name, "description": name, "input_schema": CITY} for name in NAMES]
messages = [{"role": "user", "content": question()}]
while True:
    answer = client.messages.create(
        model=MODEL, system=SYSTEM, messages=messages, tools=tools, max_tokens=200_000, timeout=600
    )
    messages.append({"role": "assistant", "content": answer.content})
    results = [
        {"type": "tool_result", "tool_use_id": part.id, "content": run(part.name, part.input)}
        for part in answer.content
        if part.type == "tool_use"
    ]
    if not results:
        break
    messages.append({"role": "user", "content": results})
print("".join(part.text for part in answer.content if part.type == "text"))
