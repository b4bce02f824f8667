"""Logs: their two forms, their level, and what never gets into them."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from nofx_grpc import logs
from nofx_grpc.v1 import exchanges_pb2

SECRET = "plaintext-91ac"
MESSAGE = exchanges_pb2.Exchange(name="X", api_key=SECRET)


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the logs of this test go; afterwards all is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_one_object_a_line(out: io.StringIO) -> None:
    logs.configure("info", "json", out)
    structlog.get_logger().info("serving", address="unix:/s", revision=7)
    [line] = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "serving", "level": "info", "address": "unix:/s", "revision": 7}


def test_each_line_of_a_worker_tells_its_number(out: io.StringIO) -> None:
    logs.configure("info", "json", out, worker=2)
    structlog.get_logger().info("serving")
    logging.getLogger("library").warning("from elsewhere")
    assert [line["worker"] for line in lines(out)] == [2, 2]


def test_json_is_what_a_file_gets(out: io.StringIO) -> None:
    logs.configure("info", None, out)
    structlog.get_logger().info("serving")
    assert lines(out)[0]["event"] == "serving"


def test_a_terminal_gets_lines_for_people(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "isatty", lambda: True)
    logs.configure("info", None, out)
    structlog.get_logger().info("serving")
    assert "serving" in out.getvalue() and "{" not in out.getvalue()


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_least_level(out: io.StringIO, level: str, count: int) -> None:
    logs.configure(level, "json", out)
    logger = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("event")
    assert len(lines(out)) == count


@pytest.mark.parametrize("format", ["json", "console"])
def test_messages_are_redacted_wherever_they_are(out: io.StringIO, format: str) -> None:
    logs.configure("info", format, out)
    logger = structlog.get_logger()
    logger.info("in", message=MESSAGE, some=[MESSAGE], named={"one": (MESSAGE,)}, raw=MESSAGE.SerializeToString())
    logger.info(MESSAGE)
    logging.getLogger("library").warning("%s", "text", exc_info=None)
    assert SECRET not in out.getvalue() and out.getvalue().count("<redacted>") == 4


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_has_no_local_variables(out: io.StringIO, format: str) -> None:
    logs.configure("info", format, out)
    local = SECRET
    try:
        raise ValueError(f"wrong: {len(local)} characters")
    except ValueError as error:
        structlog.get_logger().error("internal_error", exc_info=error)
        structlog.get_logger().exception("internal_error")
        logging.getLogger("library").exception("failed")
    assert out.getvalue().count("ValueError: wrong: 14 characters") == 3
    assert SECRET not in out.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_nothing_steers_a_terminal_or_passes_for_another_line(out: io.StringIO, format: str) -> None:
    logs.configure("info", format, out)
    hostile = "x\x1b[2J\r\n2026-01-01 [info] forged"
    structlog.get_logger().info(hostile, value=hostile, nested=[hostile])
    try:
        raise ValueError(hostile)
    except ValueError:
        structlog.get_logger().exception("failed")
    logging.getLogger("library").warning(hostile)
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()
    assert not [line for line in out.getvalue().splitlines() if line.startswith("2026-01-01 [info]")]


def test_what_libraries_log_has_the_same_form(out: io.StringIO) -> None:
    logs.configure("debug", "json", out)
    logging.getLogger("library").info("not this")
    logging.getLogger("library").warning("but %s", "this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("and this", UserWarning, stacklevel=1)
    first, second = lines(out)
    assert (first["event"], first["logger"], first["level"]) == ("but this", "library", "warning")
    assert "UserWarning: and this" in second["event"]
