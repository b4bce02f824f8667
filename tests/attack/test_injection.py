"""What somebody sends makes no line of the log."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.scene import Scene, scene
from tests.attack.wire import GOAWAY, Wire, frame

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
FORGED = b'x\n{"event":"forged","level":"info"}\n\x1b[2J'


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, log_level="debug") as made:
        yield made


def test_a_goodbye_of_the_transport_writes_nothing_into_the_log(place: Scene) -> None:
    """gRPC's own library would copy the text of a GOAWAY into the log, from callers without any credential."""
    with Wire(place.server.address) as one:
        one.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 11) + FORGED))
        one.answer()
    assert place.server.stop() == 0
    log = place.server.log.read_bytes()
    assert b"forged" not in log and b"\x1b" not in log
    assert all(json.loads(line) for line in log.splitlines())
