"""Tools that take their time, run by the client: the model goes on, and reads results as they come.

OpenAI's client as it is, on a socket. Start the server with the bundled model:

    caesura serve --enable-auto-tool-choice --tool-call-parser caesura_cml
"""

import argparse
import asyncio
import json

from openai import AsyncOpenAI

PARAMETERS = {"type": "object", "properties": {"item": {"type": "string"}}}
TOOLS = [
    {"type": "function", "name": name, "parameters": PARAMETERS, "async": True}
    for name in ("stock", "price")
]
VALUES = {"stock": "0482", "price": "4821"}
SECONDS = {"stock": 1.0, "price": 0.3}


async def run(name: str, arguments: str) -> str:
    """A call of one of the tools."""
    print(f"{name} runs: {json.loads(arguments)}")
    await asyncio.sleep(SECONDS[name])
    return VALUES[name]


async def main(url: str, key: str, model: str, question: str) -> None:
    """Ask a question, run the calls beside the model, and print the answer."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
    jobs: dict[str, asyncio.Task[str]] = {}  # by the id of the call
    settings = {"model": model, "tools": TOOLS, "temperature": 0, "store": False}
    async with client.responses.connect() as connection:
        await connection.response.create(input=question, **settings)
        async for event in connection:
            if event.type == "error":
                raise SystemExit(event.error.message)
            if event.type == "response.output_item.done" and event.item.type == "function_call":
                call = event.item  # complete, though the response may go on
                jobs[call.call_id] = asyncio.create_task(run(call.name, call.arguments))
            elif event.type == "response.completed":
                print(event.response.output_text)
                if not jobs:
                    return
                await asyncio.wait(jobs.values(), return_when=asyncio.FIRST_COMPLETED)
                done = [call_id for call_id, job in jobs.items() if job.done()]
                outputs = [
                    {
                        "type": "function_call_output",
                        "call_id": call_id,
                        "output": jobs.pop(call_id).result(),
                    }
                    for call_id in done
                ]
                await connection.response.create(
                    input=outputs, previous_response_id=event.response.id, **settings
                )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://localhost:8000")
    options.add_argument("--key", default="none")
    options.add_argument("--model", default="demo")
    options.add_argument("--question", default="Tell me the stock of K4821 and the price of B1203.")
    asyncio.run(main(**vars(options.parse_args())))
