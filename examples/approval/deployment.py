"""Something that nobody wants to be done without being asked. A tool of caesura.toml."""


async def release(version: str) -> str:
    """Release a version to all users.

    Args:
        version: the version's number.
    """
    return f"version {version} is released"
