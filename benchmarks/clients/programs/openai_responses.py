"""OpenAI's client, responses that are continued by their ids."""

import json

from common import BASE, CITY, KEY, MODEL, NAMES, SYSTEM, question, run
from openai import OpenAI

client = OpenAI(base_url=BASE, api_key=KEY)
tools = [{"type": "function", "name": name, "parameters": CITY} for name in NAMES]
given = question()
previous = None
while True:
    response = client.responses.create(
        model=MODEL, instructions=SYSTEM, input=given, tools=tools, previous_response_id=previous
    )
    previous = response.id
    given = [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": run(item.name, json.loads(item.arguments)),
        }
        for item in response.output
        if item.type == "function_call"
    ]
    if not given:
        break
print(response.output_text)
client.responses.delete(response.id)
