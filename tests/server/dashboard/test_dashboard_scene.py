"""The scene that the dashboard's pictures are taken of still plays."""

from pathlib import Path

from caesura.server.owners import ANONYMOUS
from caesura.session.records import EventType
from session.workplace import spec, until
from support.dashboard.scene import PLANS, scene


async def test_the_agents_of_the_scene_say_what_is_planned(tmp_path: Path) -> None:
    (request, (line, *_)) = next(iter(PLANS.items()))
    async with scene(tmp_path) as shown:
        agent = await shown.agents.create(ANONYMOUS, spec(request))
        output = await until(agent, EventType.OUTPUT)
    assert line.startswith(str(output.data["text"]).strip())
