"""The rules that the protos state for single fields, and the vendored protos that carry them."""

import hashlib
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import protovalidate
import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nofx_grpc.v1 import (
    admin_pb2,
    beta_codes_pb2,
    common_pb2,
    exchanges_pb2,
    models_pb2,
    signal_sources_pb2,
    system_config_pb2,
    traders_pb2,
    users_pb2,
)

PROTOS = Path(__file__).parent.parent / "protos"
MESSAGES = [
    message
    for path in sorted((PROTOS / "nofx_grpc/v1").glob("*.proto"))
    for message in import_module(f"nofx_grpc.v1.{path.stem}_pb2").DESCRIPTOR.message_types_by_name.values()
]
VALIDATOR = protovalidate.Validator()


def _filled(descriptor: Descriptor) -> Message:
    """A message in which every text is set, so that no rule is passed over for want of a value."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING and field.is_repeated:
            getattr(message, field.name).append("x")
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, "x")
        elif (
            field.message_type is not None
            and field.message_type.file.package == "nofx_grpc.v1"
            and not field.is_repeated
        ):
            getattr(message, field.name).CopyFrom(_filled(field.message_type))
    return message


def _violated(message: Message) -> list[str]:
    """The paths of the fields whose rules the message breaks."""
    return [
        ".".join(
            element.field_name + (f"[{element.subscript.value}]" if element.subscript else "")
            for element in violation.proto.field.elements
        )
        if violation.proto.field
        else ""
        for violation in VALIDATOR.collect_violations(message)
    ]


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.name)
def test_rules_compile(descriptor: Descriptor) -> None:
    VALIDATOR.collect_violations(GetMessageClass(descriptor)())
    VALIDATOR.collect_violations(_filled(descriptor))


@pytest.mark.parametrize(
    "id", ["binance", "admin", "a b", "hyper/liquid", "用户_deepseek", "🚀", 'it\'s "x"', "a%2Fb", "é" * 256]
)
def test_ids_may_hold_anything_printable(id: str) -> None:
    assert _violated(traders_pb2.GetTraderRequest(user_id=id, id=id)) == []


@pytest.mark.parametrize("id", ["", "a\n", "a\0b", "\x1b[31m", "\x85", "é" * 257])
def test_other_ids_are_refused(id: str) -> None:
    assert _violated(traders_pb2.GetTraderRequest(user_id="u", id=id))[:1] == ["id"]


def test_a_field_that_is_absent_breaks_no_rule() -> None:
    trader = traders_pb2.Trader(user_id="u", id="t", name="new name")
    assert _violated(traders_pb2.UpdateTraderRequest(trader=trader)) == []


def _trader(**fields: object) -> Message:
    return traders_pb2.CreateTraderRequest(user_id="u", trader=traders_pb2.Trader(**fields))  # type: ignore[arg-type] # cases


def _model(**fields: object) -> Message:
    return models_pb2.CreateModelRequest(user_id="u", model=models_pb2.Model(**fields))  # type: ignore[arg-type] # cases


def _setting(**fields: object) -> Message:
    setting = system_config_pb2.ConfigSetting(**fields)  # type: ignore[arg-type] # cases
    return system_config_pb2.SetSystemConfigRequest(settings=[setting])


ACCEPTED = [
    _trader(btc_eth_leverage=1, altcoin_leverage=125, initial_balance=0, scan_interval_minutes=1),
    _trader(scan_interval_minutes=10080, custom_prompt="只做 BTC/ETH\n" * 10, custom_coins=[" btc "]),
    _trader(custom_prompt="", system_prompt_template=""),
    _model(api_key="", custom_api_url=""),
    _model(custom_api_url="https://user:pw@host:8443/v1?key=1#f", api_key="a\nb"),
    _setting(key="jwt_secret", value=""),
    users_pb2.GetUserRequest(email="admin@localhost"),
    users_pb2.CreateUserRequest(user=users_pb2.User(email="陈@例子.cn")),
    users_pb2.AuthenticateRequest(email="no e-mail at all", password="x"),
    beta_codes_pb2.GenerateBetaCodesRequest(count=1000),
    traders_pb2.ListTradersRequest(page_size=1000),
    admin_pb2.CreateTokenRequest(token=admin_pb2.Token(display_name="x", role=common_pb2.ROLE_VIEWER)),
]
REFUSED = [
    (_trader(btc_eth_leverage=0), "trader.btc_eth_leverage"),
    (_trader(altcoin_leverage=126), "trader.altcoin_leverage"),
    (_trader(initial_balance=-0.01), "trader.initial_balance"),
    (_trader(initial_balance=float("nan")), "trader.initial_balance"),
    (_trader(initial_balance=float("inf")), "trader.initial_balance"),
    (_trader(scan_interval_minutes=0), "trader.scan_interval_minutes"),
    (_trader(scan_interval_minutes=10081), "trader.scan_interval_minutes"),
    (_trader(name=""), "trader.name"),
    (_trader(name="é" * 257), "trader.name"),
    (_trader(ai_model_id=""), "trader.ai_model_id"),
    (_trader(custom_prompt="a\0b"), "trader.custom_prompt"),
    (_trader(custom_prompt="é" * 32769), "trader.custom_prompt"),
    (_trader(trading_symbols=["BTCUSDT", "A,B"]), "trader.trading_symbols[1]"),
    (_trader(custom_coins=[""]), "trader.custom_coins[0]"),
    (_trader(custom_coins=["X"] * 1001), "trader.custom_coins"),
    (_model(api_key="x" * 8193), "model.api_key"),
    (_model(api_key="a\0"), "model.api_key"),
    (_model(custom_api_url="ftp://host"), "model.custom_api_url"),
    (_model(custom_api_url="https://a b"), "model.custom_api_url"),
    (_model(custom_api_url="https://" + "x" * 2048), "model.custom_api_url"),
    (_setting(key="x"), "settings[0].value"),
    (system_config_pb2.SetSystemConfigRequest(), "settings"),
    (models_pb2.CreateModelRequest(user_id="u"), "model"),
    (exchanges_pb2.UpdateExchangeRequest(), "exchange"),
    (signal_sources_pb2.SetSignalSourceRequest(), "signal_source"),
    (traders_pb2.ListTradersRequest(page_size=1001), "page_size"),
    (traders_pb2.ListTradersRequest(page_size=-1), "page_size"),
    (users_pb2.GetUserRequest(), "by"),
    (users_pb2.CreateUserRequest(user=users_pb2.User(email="nobody")), "user.email"),
    (users_pb2.SetPasswordRequest(user_id="u", password="7 chars"), "password"),
    (users_pb2.VerifyOtpRequest(login_token="t", otp_code="12345"), "otp_code"),
    (users_pb2.VerifyOtpRequest(login_token="t", otp_code="٣٣٣٣٣٣"), "otp_code"),
    (beta_codes_pb2.GenerateBetaCodesRequest(), "count"),
    (beta_codes_pb2.GenerateBetaCodesRequest(count=1001), "count"),
    (beta_codes_pb2.GenerateBetaCodesRequest(count=1, length=7), "length"),
    (beta_codes_pb2.GenerateBetaCodesRequest(count=1, request_id="x" * 129), "request_id"),
    (admin_pb2.CreateTokenRequest(token=admin_pb2.Token(role=common_pb2.ROLE_UNSPECIFIED)), "token.role"),
    (admin_pb2.CreateTokenRequest(token=admin_pb2.Token(role=99)), "token.role"),  # type: ignore[arg-type] # no such role
]


@pytest.mark.parametrize("message", ACCEPTED, ids=lambda message: type(message).__name__)
def test_accepted(message: Message) -> None:
    assert _violated(message) == []


@pytest.mark.parametrize(("message", "field"), REFUSED, ids=[field for _, field in REFUSED])
def test_refused(message: Message, field: str) -> None:
    assert set(_violated(message)) == {field}


def test_violations_do_not_repeat_a_secret() -> None:
    secret = "sk-1234567890\0"
    violations = VALIDATOR.collect_violations(_model(api_key=secret, custom_api_url=f"ftp://{secret}"))
    assert len(violations) == 2
    assert "1234567890" not in str([violation.proto for violation in violations])


# ---- vendored protos


def test_validate_proto_is_the_vendored_one_byte_for_byte() -> None:
    """Code generated from another copy, even of another format, cannot be loaded beside ours."""
    digest = hashlib.sha256((PROTOS / "buf/validate/validate.proto").read_bytes()).hexdigest()
    assert digest == "817951eab518442950f1982be24b2c3154b214b40e42f49b915cbf5181e6ee80"


def test_field_behavior_is_the_one_of_the_installed_package() -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTOS), "--descriptor_set_out=/dev/stdout"]
    output = subprocess.run([*command, "google/api/field_behavior.proto"], check=True, capture_output=True).stdout
    (vendored,) = FileDescriptorSet.FromString(output).file
    installed = type(vendored)()
    field_behavior_pb2.DESCRIPTOR.CopyToProto(installed)
    assert vendored.enum_type == installed.enum_type
    assert [(e.name, e.number, e.extendee, e.type_name) for e in vendored.extension] == [
        (e.name, e.number, e.extendee, e.type_name) for e in installed.extension
    ]


@pytest.mark.parametrize(
    "modules",
    [
        ("buf.validate.validate_pb2", "protovalidate", "nofx_grpc.v1.traders_pb2"),
        ("protovalidate", "nofx_grpc.v1.traders_pb2", "buf.validate.validate_pb2"),
    ],
)
def test_generated_rules_and_the_validator_live_in_one_process(modules: tuple[str, ...]) -> None:
    program = (
        "".join(f"import {module}\n" for module in modules)
        + "request = nofx_grpc.v1.traders_pb2.GetTraderRequest(user_id='u')\n"
        + "print(len(protovalidate.collect_violations(request)))\n"
    )
    root = PROTOS.parent
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("1\n", "")
