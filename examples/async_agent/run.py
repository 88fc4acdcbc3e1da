"""A question in three modes, on the openai package: the server calls while the model writes.

Run:    python examples/async_agent/run.py [--url URL] [--model NAME] [--mode MODE] ["A question"]
Server: caesura serve
        Its model must be trained to call while it writes; the bundled one, which is served where no
        model is named, knows prices, stocks and owners of items, carriers and states of orders,
        phone numbers.
"""

import argparse
import time

import openai

MODES = ("sync", "sync_parallel", "async")


def answer(client: openai.OpenAI, model: str, question: str, mode: str) -> None:
    """Print the answer as it comes, with the calls that the server makes for it."""
    began = time.monotonic()
    chunks = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        stream=True,
        temperature=0,
        max_tokens=400,
        extra_body={"caesura": {"tools": "all", "function_calling": mode, "show_calls": True}},
    )
    text = ""
    for chunk in chunks:
        at = f"{time.monotonic() - began:5.2f} s"
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                if call.function is not None:
                    print(f"{at}  -> {call.function.name} {call.function.arguments}")
        result = ((chunk.model_extra or {}).get("caesura") or {}).get("result")
        if result is not None:
            print(f"{at}  <- {result['name']} {result['ending']}: {result['content']}")
    print(f"{time.monotonic() - began:5.2f} s  {mode}: {' '.join(text.split())}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A question in three modes.")
    parser.add_argument(
        "question",
        nargs="?",
        default="Tell me the owner of K4821, the status of 773412 and the stock of B1203.",
    )
    parser.add_argument("--mode", choices=MODES, help="Only this one.")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="demo")
    chosen = parser.parse_args()
    with openai.OpenAI(base_url=f"{chosen.url}/v1", api_key=chosen.api_key) as made:
        for name in [chosen.mode] if chosen.mode else MODES:
            answer(made, chosen.model, chosen.question, name)
