"""The conventions that hold for every proto of the service."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from nofx_grpc import errors
from nofx_grpc.v1 import common_pb2
from tests.support.comments import comments

PROTOS = Path(__file__).parent.parent / "protos"
PACKAGE = "nofx_grpc/v1"

# The table of permissions, once more: who changes it in the protos shall notice.
PERMISSIONS = {
    "READ": """
        Users.GetUser Users.ListUsers Models.GetModel Models.ListModels Models.ListSupportedModels Exchanges.GetExchange
        Exchanges.ListExchanges Exchanges.ListSupportedExchanges SignalSources.GetSignalSource Traders.GetTrader
        Traders.ListTraders Traders.ListTradingSymbols SystemConfig.GetSystemConfig SystemConfig.ListSystemConfig
        SystemConfig.GetPublicConfig BetaCodes.ValidateBetaCode BetaCodes.ListBetaCodes BetaCodes.GetBetaCodeStats
        DecisionLogs.GetDecision DecisionLogs.ListDecisions DecisionLogs.TailDecisions
        DecisionLogs.GetDecisionStatistics DecisionLogs.AnalyzePerformance Watch.Watch""",
    "WRITE": """
        Models.CreateModel Models.UpdateModel Models.DeleteModel Exchanges.CreateExchange Exchanges.UpdateExchange
        Exchanges.DeleteExchange SignalSources.SetSignalSource SignalSources.DeleteSignalSource Traders.CreateTrader
        Traders.UpdateTrader Traders.DeleteTrader""",
    "RUN": "Traders.StartTrader Traders.StopTrader",
    "LOGIN": """
        Users.RegisterUser Users.CompleteRegistration Users.Authenticate Users.VerifyOtp Users.ChangePassword
        Users.ResetOtp BetaCodes.RedeemBetaCode""",
    "REVEAL": """
        Traders.GetTraderConfig Traders.StreamTraderConfigs Traders.WatchTraderConfigs Models.AccessModelCredentials
        Exchanges.AccessExchangeCredentials""",
    "REVEAL_SYSTEM": "SystemConfig.AccessSystemSecret",
    "RECORD": "DecisionLogs.AppendDecision",
    "ADMIN": """
        Users.CreateUser Users.UpdateUser Users.DeleteUser Users.SetPassword SystemConfig.SetSystemConfig
        SystemConfig.ImportConfigFile BetaCodes.ImportBetaCodes BetaCodes.GenerateBetaCodes BetaCodes.DeleteBetaCode
        DecisionLogs.PruneDecisions
        Admin.CreateToken Admin.ListTokens Admin.RevokeToken Admin.ListKeys Admin.RotateKey Admin.Reencrypt
        Admin.RetireKey Admin.ListAuditEvents Admin.VerifyAudit Admin.ExportAuditHead Admin.PruneAudit""",
}
# Closed to tokens that are limited to one user, because they name none.
NAME_NO_USER = """
    Users.CreateUser Users.RegisterUser Users.Authenticate Users.VerifyOtp SystemConfig.GetSystemConfig
    SystemConfig.ListSystemConfig SystemConfig.SetSystemConfig SystemConfig.ImportConfigFile
    SystemConfig.AccessSystemSecret BetaCodes.ImportBetaCodes BetaCodes.GenerateBetaCodes
    BetaCodes.ValidateBetaCode BetaCodes.ListBetaCodes BetaCodes.DeleteBetaCode BetaCodes.GetBetaCodeStats
    Admin.CreateToken Admin.ListTokens Admin.RevokeToken
    Admin.ListKeys Admin.RotateKey Admin.Reencrypt Admin.RetireKey
    Admin.VerifyAudit Admin.ExportAuditHead Admin.PruneAudit""".split()
OPEN_TO_SCOPED = {"Models.ListSupportedModels", "Exchanges.ListSupportedExchanges", "SystemConfig.GetPublicConfig"}

RESOURCES = {"User", "Model", "Exchange", "SignalSource", "Trader", "ConfigEntry", "BetaCode", "Token", "Key"}
RESOURCES |= {"Decision"}
SECRET_NAME = re.compile(
    r"(.*_)?(password|api_key|secret_key|private_key|secret)|otp_code|otpauth_uri|login_token"
    r"|custom_api_url|coin_pool_url|oi_top_url"
)
# Secrets that callers without the permission to reveal are shown: in the one answer that makes them.
SHOWN_ONCE = {
    "RegisterUserResponse.otp_secret",
    "RegisterUserResponse.otpauth_uri",
    "ResetOtpResponse.otp_secret",
    "ResetOtpResponse.otpauth_uri",
    "OtpChallenge.login_token",
    "Token.secret",
}
# Not logged, though only some of its values are secrets; and those are not in answers.
REDACTED_BUT_NOT_SECRET = {"ConfigEntry.value"}

# INTERNAL stands for every exception that is no NofxError, and for a method that does not exist gRPC itself answers.
REASONS_WITHOUT_CLASS = {"UNSPECIFIED", "UNIMPLEMENTED", "INTERNAL"}


def _files() -> list[FileDescriptor]:
    names = sorted(path.stem for path in (PROTOS / PACKAGE).glob("*.proto"))
    return [import_module(f"nofx_grpc.v1.{name}_pb2").DESCRIPTOR for name in names]


MESSAGES = [message for file in _files() for message in file.message_types_by_name.values()]
METHODS = {
    f"{service.name}.{method.name}": method
    for file in _files()
    for service in file.services_by_name.values()
    for method in service.methods
}
FIELDS = {f"{message.name}.{field.name}": field for message in MESSAGES for field in message.fields}
each_method = pytest.mark.parametrize("name", METHODS)


def _behaviors(field: FieldDescriptor) -> set[str]:
    values = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return {field_behavior_pb2.FieldBehavior.Name(value) for value in values}


def _is_secret(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[common_pb2.secret])


def _field_at(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, last = path.split(".")
    for parent in parents:
        child = message.fields_by_name[parent].message_type
        assert child is not None, f"{path}: {parent} is no message"
        message = child
    return message.fields_by_name[last]


def _reachable(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    """Every field that an answer of this type can hold, at any depth."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from _reachable(field.message_type, seen)


def _message(field: FieldDescriptor) -> Descriptor:
    assert field.containing_type is not None
    return field.containing_type


def _name(field: FieldDescriptor) -> str:
    return f"{_message(field).name}.{field.name}"


# ---- comments


def test_everything_has_a_comment() -> None:
    silent = [name for name, comment in comments().items() if not comment]
    assert silent == []


# ---- rpcs


def test_every_rpc_has_the_permission_of_the_table() -> None:
    found: dict[str, set[str]] = {}
    for name, method in METHODS.items():
        permission = common_pb2.Permission.Name(method.GetOptions().Extensions[common_pb2.permission])
        found.setdefault(permission.removeprefix("PERMISSION_"), set()).add(name)
    assert found == {permission: set(names.split()) for permission, names in PERMISSIONS.items()}


@each_method
def test_rpc_says_which_user_it_is_about(name: str) -> None:
    method = METHODS[name]
    options = method.GetOptions().Extensions
    path = options[common_pb2.user_field]
    if not path:
        assert name in {*NAME_NO_USER, *OPEN_TO_SCOPED}
    else:
        field = _field_at(method.input_type, path)
        assert field.type == FieldDescriptor.TYPE_STRING
        assert name not in NAME_NO_USER
    assert options[common_pb2.open_to_scoped] == (name in OPEN_TO_SCOPED)
    is_list = method.name.startswith("List") or method.server_streaming
    assert options[common_pb2.narrowed] == (is_list and path == "user_id")


@each_method
def test_rpc_that_may_not_be_repeated_takes_a_request_id(name: str) -> None:
    method = METHODS[name]
    repeatable = method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    assert ("request_id" in method.input_type.fields_by_name) != repeatable


@each_method
def test_only_what_is_read_has_no_side_effects(name: str) -> None:
    options = METHODS[name].GetOptions()
    reads = options.Extensions[common_pb2.permission] == common_pb2.PERMISSION_READ
    reads |= name in {"Admin.ListTokens", "Admin.ListKeys"}
    assert (options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS) == reads


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m.name.startswith("List")], ids=lambda m: m.name)
def test_list_has_pages(method: MethodDescriptor) -> None:
    fields = method.input_type.fields_by_name
    assert (fields["page_size"].type, fields["page_token"].type) == (
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_STRING,
    )
    answer = method.output_type.fields_by_name
    assert answer["next_page_token"].type == FieldDescriptor.TYPE_STRING
    assert [field.name for field in answer.values() if field.is_repeated] == [method.output_type.fields[0].name]


@each_method
def test_answers_are_resources_or_responses(name: str) -> None:
    method = METHODS[name]
    assert method.input_type.name == f"{method.name}Request"
    if method.output_type.name != f"{method.name}Response":
        assert method.output_type.name in RESOURCES | {
            "TraderConfig",
            "PublicConfig",
            "BetaCodeStats",
            "DecisionStatistics",
            "Performance",
        }


# ---- fields


def test_resources_are_the_messages_with_an_identifier() -> None:
    assert {_name(field).split(".")[0] for field in FIELDS.values() if "IDENTIFIER" in _behaviors(field)} == RESOURCES


def test_every_settable_scalar_of_a_resource_has_presence() -> None:
    settable = [
        field
        for name, field in FIELDS.items()
        if name.split(".")[0] in RESOURCES
        and field.name not in {"user_id", "id", "key", "code", "etag"}
        and "OUTPUT_ONLY" not in _behaviors(field)
        and not field.is_repeated
    ]
    assert len(settable) > 30
    assert [_name(field) for field in settable if not field.has_presence] == []


def test_every_field_of_a_request_says_whether_it_is_required() -> None:
    fields = [field for method in METHODS.values() for field in method.input_type.fields if not field.containing_oneof]
    assert [_name(field) for field in fields if not _behaviors(field) & {"REQUIRED", "OPTIONAL"}] == []


# ---- secrets


def test_fields_that_sound_like_secrets_are_marked() -> None:
    texts = [field for field in FIELDS.values() if field.type == FieldDescriptor.TYPE_STRING]
    assert [_name(field) for field in texts if SECRET_NAME.fullmatch(field.name) and not _is_secret(field)] == []


def test_secrets_are_redacted() -> None:
    redacted = {name for name, field in FIELDS.items() if field.GetOptions().debug_redact}
    assert redacted == {name for name, field in FIELDS.items() if _is_secret(field)} | REDACTED_BUT_NOT_SECRET


def test_secrets_of_resources_go_in_and_do_not_come_out() -> None:
    secrets = [
        field for name, field in FIELDS.items() if _is_secret(field) and name.split(".")[0] in RESOURCES - {"Token"}
    ]
    assert len(secrets) == 7
    for field in secrets:
        shown = [f"{field.name}_set", f"{field.name}_fingerprint"]
        shown += [f"{field.name}_redacted"] if field.name.endswith("_url") else []
        assert _behaviors(field) == {"INPUT_ONLY"}, _name(field)
        for name in shown:
            assert _behaviors(_message(field).fields_by_name[name]) == {"OUTPUT_ONLY"}, name


@each_method
def test_only_who_may_reveal_is_answered_secrets(name: str) -> None:
    method = METHODS[name]
    secrets = {
        _name(f) for f in _reachable(method.output_type, set()) if _is_secret(f) and "INPUT_ONLY" not in _behaviors(f)
    }
    if method.GetOptions().Extensions[common_pb2.permission] in {
        common_pb2.PERMISSION_REVEAL,
        common_pb2.PERMISSION_REVEAL_SYSTEM,
    }:
        assert secrets
    else:
        assert secrets <= SHOWN_ONCE


# ---- reasons


def _subclasses(root: type[errors.NofxError]) -> Iterator[type[errors.NofxError]]:
    for cls in root.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from _subclasses(cls)


def test_reasons_are_those_of_the_exceptions() -> None:
    reasons = {name.removeprefix("REASON_") for name in common_pb2.Reason.keys()}  # noqa: SIM118 - no mapping
    assert reasons - REASONS_WITHOUT_CLASS == {cls.reason for cls in _subclasses(errors.NofxError)}
