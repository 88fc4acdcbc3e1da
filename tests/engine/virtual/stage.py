"""An engine whose sessions and requests a test plays one by one."""

import random
from collections.abc import Sequence

import pytest
from vllm.v1.engine import EngineCoreOutput, FinishReason

from caesura.engine.connector import own_connector
from caesura.engine.copies.host_pool import HostPool
from caesura.engine.protocol import DETACHED, REPORT
from caesura.engine.scheduler import InterceptScheduler
from engine.virtual.engine import BLOCK_SIZE, Shape, VirtualEngine
from engine.virtual.harness import Client, Harness, Transcript
from engine.virtual.runners import RunnerVersion


class Player(Client):
    """A request or a session in place, played by the test."""

    def __init__(self, harness: Harness, name: str, prompt: Sequence[int]) -> None:
        self.name = name
        self.transcript = Transcript(prompt)
        self.endings: list[FinishReason] = []
        self.tokens = 0
        self.detached = False
        self.report: dict[str, object] | None = None
        self.first_token_seconds: float | None = None
        self._harness = harness

    @property
    def turns(self) -> int:
        return len(self.endings)

    def receive(self, output: EngineCoreOutput) -> None:
        if output.stop_reason == DETACHED:
            self.detached = True
            return
        self.transcript.take(self.name, output.new_token_ids)
        self.tokens += len(output.new_token_ids)
        if self.first_token_seconds is None and output.new_token_ids:
            self.first_token_seconds = self._harness.now_seconds
        if output.finish_reason is not None:
            self.endings.append(output.finish_reason)
        if output.kv_transfer_params is not None:
            self.report = output.kv_transfer_params[REPORT]


class Stage:
    """An engine and the players on it."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.engine = VirtualEngine(shape, self.rng)
        self.harness = Harness(self.engine)
        self.players: list[Player] = []

    @property
    def scheduler(self) -> InterceptScheduler:
        assert isinstance(self.engine.scheduler, InterceptScheduler)
        return self.engine.scheduler

    @property
    def host(self) -> HostPool:
        connector = own_connector(self.scheduler.connector)
        assert connector is not None
        return connector.transfers.host

    @property
    def free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    def words(self, count: int) -> list[int]:
        return [self.rng.randrange(64) for _ in range(count)]

    def request(self, name: str, tokens: int, max_tokens: int, **options: object) -> Player:
        """A new request of `tokens` tokens."""
        player = Player(self.harness, name, self.words(tokens))
        self.players.append(player)
        self.submit(player, max_tokens, **options)
        return player

    def submit(self, player: Player, max_tokens: int, **options: object) -> None:
        prompt = player.transcript.tokens
        request = self.engine.request(player.name, prompt, max_tokens=max_tokens, **options)
        self.harness.send(player, request)

    def session(self, name: str, tokens: int, max_tokens: int = 1) -> Player:
        """A session in place."""
        return self.request(name, tokens, max_tokens, resumable=True)

    def extend(self, player: Player, tokens: int, max_tokens: int = 1) -> None:
        """A parked session gets more tokens."""
        player.transcript.append(self.append_later(player, tokens, max_tokens))

    def append_later(self, player: Player, tokens: int, max_tokens: int = 1) -> list[int]:
        """Interrupt a session; the caller adds the tokens to its transcript when it stops."""
        words = self.words(tokens)
        self.harness.send(
            player,
            self.engine.request(player.name, words, max_tokens=max_tokens, resumable=True),
        )
        return words

    def run(self) -> None:
        """Run until there is nothing to do."""
        self.harness.run()

    def forget_device_copies(self) -> None:
        """What no request uses is overwritten."""
        pool = self.scheduler.kv_cache_manager.block_pool
        pool.evict_blocks({block.block_id for block in pool.blocks if block.ref_cnt == 0})

    def fill_with_paused_sessions(self) -> list[Player]:
        """Park sessions of one block each until the pool is full of them."""
        blocks = self.engine.shape.blocks
        sessions = [self.session(f"paused-{number}", BLOCK_SIZE - 1) for number in range(blocks)]
        self.run()
        assert self.scheduler.parking.num_parked() == blocks
        assert self.free_blocks == 0
        return sessions


def every_mode() -> pytest.MarkDecorator:
    modes = [
        pytest.param(in_flight, runner, id=f"{('sync', 'async')[in_flight - 1]}-{runner}")
        for in_flight in (1, 2)
        for runner in RunnerVersion
    ]
    return pytest.mark.parametrize(("in_flight", "runner"), modes)
