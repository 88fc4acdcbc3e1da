"""The attackers, in a process of their own: `python -m abuse.attackers KIND URL SEED FILE`.

It says `ready` when its bodies are made, begins when a line comes, and writes every half second
which answers it got. It goes on until it is killed.
"""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from abuse import bodies
from abuse.attacks import KINDS, Attack, Target

ALL = "all at once"


async def _again_and_again(attack: Attack, target: Target, chance: random.Random) -> None:
    while True:
        before = target.answers.total()
        await attack(target, chance)
        if target.answers.total() == before:  # nothing to be had
            await asyncio.sleep(0.1)


async def _attack(name: str, target: Target, seed: int, file: Path) -> None:
    chosen = [kind.attack for kind in KINDS.values()] if name == ALL else []
    if not chosen:
        chosen = [KINDS[name].attack] * KINDS[name].at_once
    tasks = [
        asyncio.create_task(_again_and_again(attack, target, random.Random(f"{seed}:{number}")))
        for number, attack in enumerate(chosen)
    ]
    while not any(task.done() for task in tasks):
        await asyncio.to_thread(_write, file, json.dumps(target.answers))
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)


def _write(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(file)  # at no moment is it half


def main() -> None:
    """Attack until the end."""
    name, url, seed, file = sys.argv[1:]
    if name == ALL or KINDS[name].needs_large_bodies:
        bodies.largest()
    print("ready", flush=True)
    sys.stdin.readline()
    os.nice(19)  # in reality they would not use the server's cores
    asyncio.run(_attack(name, Target(url), int(seed), Path(file)))


if __name__ == "__main__":
    main()
