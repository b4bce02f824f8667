"""No secret in the repr of what holds one: it would be in a log or a traceback with whatever shows its holder."""

import dataclasses
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, cast

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

import nofx_grpc
from nofx_grpc.client.config_view import Told
from nofx_grpc.rpc.credentials import Credential
from nofx_grpc.rpc.interceptor import ANONYMOUS
from nofx_grpc.services.call import Call
from nofx_grpc.services.config_streams import Batch
from nofx_grpc.services.logins import LoginToken, Proof
from nofx_grpc.store.adoption.rows import Row
from nofx_grpc.store.adoption.values import Converted
from nofx_grpc.store.reads import Answer
from nofx_grpc.v1 import common_pb2, models_pb2, traders_pb2, users_pb2

SECRET_NAME = re.compile(
    r"(.*_)?(secret|secret_key|api_key|private_key|password|hash|rehashed|authorization|token|values?|original)"
)
SECRET = "plaintext-41c7aa"
NOT_SECRET = {
    "cli.watch_lines.Line.resource": "as Watch shows it",
    "client.calls.Policy.token": "it has a repr of its own",
    "services.trader_configs.Prepared.public": "all but the secrets",
    "services.watch_messages.WatchedKind.value": "the number of a kind",
    "store.adoption.rules.ConfigRules.secret": "names",
    "store.decisions.home.Staged.token": "the name of a file",
    "store.decisions.publishing.Nameless.token": "the name of a file",
    "store.sealed.Sealed.value": "sealed",
}


def _classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(nofx_grpc.__path__, "nofx_grpc."):
        if re.search(r"\.v1\.|\.migrations\.|__main__", module.name):
            continue
        found = vars(import_module(module.name)).values()
        yield from (each for each in found if inspect.isclass(each) and each.__module__ == module.name)


def _shown_fields(cls: type) -> dict[str, Any]:
    if dataclasses.is_dataclass(cls):
        return {field.name: field.type for field in dataclasses.fields(cls) if field.repr}
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and "__repr__" not in _written(cls):
        return {name: cls.__annotations__[name] for name in cls._fields}
    return {}


def _written(cls: type) -> set[str]:
    """What a class itself defines: a named tuple is given a repr that shows everything."""
    return {name for name, value in vars(cls).items() if getattr(value, "__module__", "") == cls.__module__}


def _types(annotation: Any) -> Iterator[Any]:
    yield annotation
    if typing.get_origin(annotation) is not type:
        for argument in typing.get_args(annotation):
            yield from _types(argument)


def _holds_secrets(message: Descriptor) -> bool:
    return any(
        _is_secret(field) or (field.message_type is not None and _holds_secrets(field.message_type))
        for field in message.fields
    )


def _is_secret(field: FieldDescriptor) -> bool:
    options = field.GetOptions().Extensions
    never_out = field_behavior_pb2.INPUT_ONLY in options[field_behavior_pb2.field_behavior]
    return options[common_pb2.secret] and not never_out


def _may_be_secret(name: str, annotation: Any) -> bool:
    if SECRET_NAME.fullmatch(name) and annotation is not bool:
        return True
    messages = [each for each in _types(annotation) if inspect.isclass(each) and issubclass(each, Message)]
    return any(each is Message or _holds_secrets(cast("Descriptor", each.DESCRIPTOR)) for each in messages)


def test_no_field_that_may_be_secret_is_shown() -> None:
    shown = {
        f"{cls.__module__.removeprefix('nofx_grpc.')}.{cls.__name__}.{name}"
        for cls in _classes()
        for name, annotation in _shown_fields(cls).items()
        if _may_be_secret(name, annotation)
    }
    assert shown == set(NOT_SECRET)


def test_what_was_shown_once_is_not() -> None:
    request = users_pb2.AuthenticateRequest(email="ann@example.com", password=SECRET)
    nothing: Any = None
    call = Call("m", ANONYMOUS, "p", nothing, nothing, users_pb2.AuthenticateResponse, request)
    config = traders_pb2.TraderConfig(model_credentials=models_pb2.ModelCredentials(api_key=SECRET))
    holders = [
        Credential(f"Bearer {SECRET}", local=True),
        call,
        Proof("ann", SECRET, correct=True, rehashed=SECRET),
        LoginToken("id", "ann", SECRET, datetime.now(UTC)),
        Batch([config], []),
        Told([config], [config]),
        Answer(config, 1),
        Converted(SECRET),
        Row(("ann",), {"api_key": SECRET}, {"api_key": SECRET}),
    ]
    assert SECRET not in repr(holders)
