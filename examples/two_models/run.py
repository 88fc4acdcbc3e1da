"""A model that asks another model, through OpenAI's routes: the server makes the calls.

While the second model answers, the first one is paused. Both may be the same server, as here; then
the pause makes room for the model that it waits for.

Run:    python examples/two_models/run.py [--url URL] [--model NAME] ["A question"]
Server: see examples/README.md. The tool `ask_expert` names the second model there.
"""

import argparse

import openai


def answer(client: openai.OpenAI, model: str, question: str) -> None:
    """Print the answer as it comes, with the calls that the server makes for it."""
    chunks = client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "Ask the expert before you answer."},
            {"role": "user", "content": question},
        ],
        stream=True,
        extra_body={"caesura": {"tools": ["ask_expert"], "show_calls": True}},
    )
    for chunk in chunks:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
            for call in choice.delta.tool_calls or []:
                if call.function is not None:
                    print(f"\n-> {call.function.name} {call.function.arguments}")
        result = ((chunk.model_extra or {}).get("caesura") or {}).get("result")
        if result is not None:
            print(f"<- {result['ending']}: {result['content']}")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A model that asks another model.")
    parser.add_argument("question", nargs="?", default="Why is the sky blue?")
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="agent")
    chosen = parser.parse_args()
    with openai.OpenAI(base_url=f"{chosen.url}/v1", api_key=chosen.api_key) as made:
        answer(made, chosen.model, chosen.question)
