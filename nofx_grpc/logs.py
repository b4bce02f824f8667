"""Logs: one line for each event on standard error, as JSON or for people.  Nothing that is logged may hold a secret.

A protobuf message is logged redacted.  Tracebacks have no local variables.  Whatever could steer a terminal is escaped.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
from google.protobuf.message import Message
from structlog.typing import Processor

from nofx_grpc.redaction import escaped, redacted

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, format: str | None, stream: TextIO | None = None, *, worker: int | None = None) -> None:
    """Log from `level` on to `stream` (standard error), in `format`: "json", "console", or as the stream suggests.

    Every line tells the number of the worker, if this process is one.

    What libraries log by `logging` comes out in the same form, from warnings on.
    """
    out = _Lenient(sys.stderr if stream is None else stream)
    chain: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if worker is None else [_of_worker(worker)]),
        traceback_text,
        safe_values,
    ]
    renderer = _renderer(format or ("console" if out.isatty() else "json"), colors=out.isatty())
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", out)),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *chain, renderer],
        foreign_pre_chain=[structlog.stdlib.add_logger_name],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.addFilter(_is_news)
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


class _Lenient:
    """A stream that takes no more where its disk is full: what is served must not end, or wait, for the log's sake."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _is_news(record: logging.LogRecord) -> bool:
    """gRPC logs an error for each client that goes away before its answer has left, which anyone can do at will."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name == "grpc._cython.cygrpc" and str(error).startswith('Failed "execute_batch"'))


def _of_worker(number: int) -> Processor:
    """What puts the number of the worker into each event."""

    def add(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("worker", number)
        return event

    return add


def traceback_text(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put an exception into words: its traceback, without local variables.

    Each line is indented, so that no message of an exception can pass for a line of the log.
    """
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        lines = "".join(traceback.format_exception(error)).split("\n")
        event["exception"] = "\n".join(f"    {escaped(line)}" for line in lines if line)
    return event


def safe_values(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every value fit to be written out."""
    for key, value in event.items():
        if not key.startswith("_") and key != "exception":
            event[key] = _safe(value)
    return event


def _safe(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {escaped(str(key)): _safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe(item) for item in value]
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, Message):
        return redacted(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return escaped(str(value))


def _renderer(format: str, *, colors: bool) -> Processor:
    if format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
