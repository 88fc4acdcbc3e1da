"""Two tools that are Python functions and run in the server's process."""

import asyncio

from caesura.bundled.world import UnknownCode, World
from caesura.tools import ToolError


async def price(item: str) -> str:
    """Price of an item.

    Args:
        item: the item's code, such as K4821.
    """
    return await _look_up("price", item)


async def stock(item: str) -> str:
    """How many pieces of an item are in stock.

    Args:
        item: the item's code, such as K4821.
    """
    return await _look_up("stock", item)


async def _look_up(tool: str, item: str) -> str:
    world = World.of_environment()
    try:
        value = world.value(tool, item)
    except UnknownCode as error:
        raise ToolError(str(error)) from None
    await asyncio.sleep(world.seconds(tool, item))
    return value
