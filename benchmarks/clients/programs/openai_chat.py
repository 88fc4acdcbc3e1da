"""OpenAI's client, chat completions."""

import json

from common import BASE, CITY, KEY, MODEL, NAMES, SYSTEM, question, run
from openai import OpenAI

client = OpenAI(base_url=BASE, api_key=KEY)
tools = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in NAMES]
messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question()}]
while True:
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    message = answer.choices[0].message
    messages.append(message)
    if not message.tool_calls:
        break
    for call in message.tool_calls:
        result = run(call.function.name, json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print(message.content)
