"""An agent on the openai package that runs its own tools. Nothing in it knows of Caesura.

Each tool call ends a request, and the next request has the whole conversation again. The server
sees that it goes on where the one before paused: its context is still there.

Run:    python examples/openai_agent.py [--url URL] [--model NAME] ["A question"]
Server: see examples/README.md. It needs no --config: the tools are run here.
"""

import argparse
import json

import openai
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"In {city} it rains, at 12 degrees."


def get_time(city: str) -> str:
    """The local time in a city."""
    return f"In {city} it is 14:30."


FUNCTIONS = {"get_weather": get_weather, "get_time": get_time}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {"name": name, "description": str(function.__doc__), "parameters": CITY},
    }
    for name, function in FUNCTIONS.items()
]
MOST_TURNS = 10


def answer(client: openai.OpenAI, model: str, question: str) -> str:
    """Let the model call tools until it answers."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    for _ in range(MOST_TURNS):
        completion = client.chat.completions.create(
            model=model, messages=messages, tools=TOOLS, max_tokens=512
        )
        message = completion.choices[0].message
        messages.append(message.to_dict())
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            result = run(call.function.name, call.function.arguments)
            print(f"{call.function.name}({call.function.arguments}) -> {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return f"(no answer in {MOST_TURNS} turns)"


def run(name: str, arguments: str) -> str:
    """Call a function; what is wrong with the call is for the model to read."""
    try:
        return FUNCTIONS[name](**json.loads(arguments))
    except (KeyError, TypeError, ValueError) as error:
        return f"the call does not fit: {error!r}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An agent that runs its own tools.")
    parser.add_argument("question", nargs="?", default="What is the weather in Berlin, and when?")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="agent")
    chosen = parser.parse_args()
    with openai.OpenAI(base_url=f"{chosen.url}/v1", api_key=chosen.api_key) as made:
        print(answer(made, chosen.model, chosen.question))
