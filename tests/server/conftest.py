from collections.abc import Iterator

import pytest

from servers import RestartableServer
from support.servers.keyed import serve_with_keys


@pytest.fixture(scope="session")
def server_with_keys(
    model_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartableServer]:
    """For several owners; it renders histories otherwise than they were written."""
    server = serve_with_keys(model_path, tmp_path_factory.mktemp("serve"))
    yield server
    server.stop()
