"""Fixtures of the tests of several services."""

import pytest

from tests.support.audit import happenings
from tests.support.clock import FakeClock
from tests.support.people import Person, complete, register
from tests.support.service import RunningService


@pytest.fixture
async def ann(service: RunningService, clock: FakeClock) -> Person:
    """Somebody who can log in, with a code that nobody has used."""
    person = await register(service)
    await complete(service, person, clock.now)
    clock.advance(seconds=60)
    return person


@pytest.fixture
async def told(service: RunningService, clock: FakeClock) -> RunningService:
    """A service with an audit log that something is in."""
    await happenings(service, clock)
    return service
