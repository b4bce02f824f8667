"""Messages in words: no secret, nothing that steers a terminal."""

import pytest
from google.protobuf.message import Message

from nofx_grpc.redaction import escaped, is_secret, redacted
from nofx_grpc.v1 import (
    admin_pb2,
    common_pb2,
    exchanges_pb2,
    system_config_pb2,
    traders_pb2,
    users_pb2,
)
from tests.support.rpcs import METHODS

SECRET = "plaintext-7b1f"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            exchanges_pb2.Exchange(id="okx", api_key=SECRET, testnet=False),
            'Exchange{id: "okx", api_key: <redacted>, testnet: False}',
        ),
        (
            exchanges_pb2.CreateExchangeRequest(user_id="u", exchange=exchanges_pb2.Exchange(secret_key=SECRET)),
            'CreateExchangeRequest{user_id: "u", exchange: Exchange{secret_key: <redacted>}}',
        ),
        (admin_pb2.Token(role=common_pb2.ROLE_ADMIN, secret=SECRET), "Token{role: ROLE_ADMIN, secret: <redacted>}"),
        (admin_pb2.Token(), "Token{}"),
        (
            admin_pb2.ListTokensResponse(tokens=[admin_pb2.Token(id="1", secret=SECRET), admin_pb2.Token(id="2")]),
            'ListTokensResponse{tokens: [Token{id: "1", secret: <redacted>}, Token{id: "2"}]}',
        ),
        (users_pb2.GetUserRequest(id='a"\x1b[31m\u202e\x9b'), 'GetUserRequest{id: "a\\"\\u001b[31m\\u202e\\x9b"}'),
        (
            traders_pb2.GetTraderRequest(user_id="x" * 300),
            f'GetTraderRequest{{user_id: "{"x" * 200}…"}}',
        ),
        (
            system_config_pb2.ImportConfigFileRequest(content=SECRET.encode()),
            "ImportConfigFileRequest{content: <redacted>}",
        ),
    ],
)
def test_a_message_in_words(message: Message, text: str) -> None:
    assert redacted(message) == text


def test_long_lists_are_cut() -> None:
    message = admin_pb2.ListTokensResponse(tokens=[admin_pb2.Token(id=str(number)) for number in range(100)])
    assert 'Token{id: "19"}, and 80 more]' in redacted(message) and '"20"' not in redacted(message)


def test_every_field_whose_name_says_secret_is_marked() -> None:
    """A secret that is not marked in the proto would be logged: the names that a secret may have are few."""
    messages = {message for method in METHODS.values() for message in (method.input_type, method.output_type)}
    fields = {field for message in messages for field in message.fields if field.type == field.TYPE_STRING}
    names = {
        "api_key",
        "secret_key",
        "aster_private_key",
        "password",
        "new_password",
        "old_password",
        "otp_secret",
        "secret",
    }
    suspicious = {field for field in fields if field.name in names}
    assert suspicious and {field.full_name for field in suspicious if not is_secret(field)} == set()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("ä–漢", "ä–漢"),
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
