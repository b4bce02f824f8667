"""A client of each kind over a real server."""

from collections.abc import AsyncIterator

import pytest

from tests.client.support import KINDS, AnyClient, close
from tests.support.service import RunningService


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def nofx(request: pytest.FixtureRequest, service: RunningService) -> AsyncIterator[AnyClient]:
    """A client with the admin's token."""
    client: AnyClient = request.param(service.address, token=service.token("admin"))
    yield client
    await close(client)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[AnyClient]:
    """A kind of client."""
    return request.param  # type: ignore[no-any-return]  # pytest does not know what the parameters are
