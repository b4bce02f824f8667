"""Inputs for every rpc, made of its descriptors, of what answers held, and of chance; the same for the same seed.

Chance is a `random.Random`: one with a seed, for runs of a million, or one that hypothesis plays (`st.randoms`), which
makes an input that breaks something as small as it can.  It makes 90 inputs a second on a core, the other 6,400.
"""

import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.attack import texts
from tests.support.rpcs import METHODS, permission_of

HIDDEN = "hidden-from-the-fuzz"
ROLES = ("admin", "gateway", "engine", "viewer")
MAY = {
    "READ": ROLES,
    "WRITE": ("admin", "gateway"),
    "RUN": ("admin", "gateway", "engine"),
    "LOGIN": ("admin", "gateway"),
    "REVEAL": ("engine",),
    "REVEAL_SYSTEM": ("gateway",),
    "RECORD": ("admin", "engine"),
    "ADMIN": ("admin",),
}
# What takes long by its nature - a password's hash, all records, all values, an open stream - gets a smaller share.
DEAR = {
    "Admin.VerifyAudit", "Admin.Reencrypt", "Admin.RotateKey", "Admin.ExportAuditHead", "Admin.ListKeys",
    "BetaCodes.GenerateBetaCodes", "BetaCodes.ImportBetaCodes",
    "Users.Authenticate", "Users.RegisterUser", "Users.ChangePassword", "Users.SetPassword", "Users.CreateUser",
    "Users.ResetOtp", "Users.CompleteRegistration",
    "Watch.Watch", "Traders.WatchTraderConfigs", "Traders.StreamTraderConfigs", "DecisionLogs.TailDecisions",
}  # fmt: skip
NAMES = sorted(METHODS)
SHARES = [1 if name in DEAR else 40 for name in NAMES]
WORDS = {
    "user_id": ["default", "ann"],
    "id": ["one", "of-default", "of-ann", "default", "ann"],
    "model_id": ["of-default", "of-ann", "two"],
    "ai_model_id": ["of-default", "of-ann", "two"],
    "exchange_id": ["one", "two"],
    "trader_id": ["of-default", "of-ann", "two"],
    "key": ["jwt_secret", "beta_mode", "coin_pool_api_url", "default_coins"],
    "provider": ["qwen", "deepseek", "custom"],
    "type": ["cex", "dex", "binance", "hyperliquid", "aster"],
    "email": ["ann@example.com", "bob@example.com"],
    "request_id": ["r-1", "r-2", "r-3"],
    "page_token": [""],
    "etag": ["", ""],
    "history_id": [""],
    "after_id": [""],
    "head": [""],
    "custom_api_url": ["https://api.example.com/v1?key=1"],
    "coin_pool_url": ["https://pool.example.com/"],
    "oi_top_url": ["http://127.0.0.1:8080/x"],
    "trading_symbols": ["BTCUSDT", "ETHUSDT"],
    "custom_coins": ["SOL"],
    "decision_json": ["[]", "{}"],
    "wallet": ["0x" + "ab" * 20],
    "otp_code": ["000000", "123456"],
    "null_fields": ["positions", "decisions"],
    "extra_json": ["{}", '{"a":1}'],
}
NUMBERS = (0, 1, -1, 2, 10, 1000, 1001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.5, -1.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
DEEP = b"\x0a\x80\x80\x80\x80\x08", b"\x0b" * 5000, b"\x12\x02" * 3000, b"\xff" * 11, b"\x08" + b"\x80" * 10 + b"\x01"


@dataclass
class Input:
    """One call: what is sent to which rpc, and as whom."""

    method: MethodDescriptor
    raw: tuple[bytes, ...]  # several for an upload
    metadata: tuple[tuple[str, str | bytes], ...]
    kind: str
    role: str


@dataclass
class Inputs:
    """Makes inputs.  `seen` holds texts of answers, by field: ids, etags, page tokens, login tokens."""

    tokens: dict[str, str]
    seen: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=100)))

    def make(self, chance: random.Random) -> Input:
        [name] = chance.choices(NAMES, SHARES)
        method = METHODS[name]
        role = chance.choice(MAY[permission_of(method)] if chance.random() < 0.8 else ROLES)
        kind, make = chance.choice(KINDS)
        count = chance.randint(1, 3) if method.client_streaming else 1
        raw = tuple(make(self, chance, method) for _ in range(count))
        metadata: tuple[tuple[str, str | bytes], ...] = (("authorization", f"Bearer {self.tokens[role]}"),)
        if chance.random() < 0.12:
            kind, metadata = f"{kind}, metadata", self._metadata(chance, metadata)
        return Input(method, raw, metadata, kind, role)

    def learn(self, message: Message) -> None:
        """Remember what an answer holds that a later request may hold, too; nothing of the user that is to stay."""
        for descriptor, value in message.ListFields():
            if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                for below in list(value)[:3] if descriptor.is_repeated else [value]:
                    if below.DESCRIPTOR.name not in {"Token", "Timestamp"}:  # nobody revokes our own tokens
                        self.learn(below)
            elif (
                descriptor.type == FieldDescriptor.TYPE_STRING
                and not descriptor.is_repeated
                and value
                and HIDDEN not in value
            ):
                self.seen[descriptor.name.removeprefix("next_")].append(value)

    def message(self, chance: random.Random, message: Message, bold: float, depth: int = 0) -> Message:
        """Fill a message; of its values as many are odd as it is bold."""
        for descriptor in message.DESCRIPTOR.fields:
            if depth < 5 and chance.random() < _share(descriptor, depth):
                self._set(chance, message, descriptor, bold, depth)
        return message

    def _set(self, chance: random.Random, message: Message, descriptor: Any, bold: float, depth: int) -> None:
        if descriptor.message_type is not None:
            below: Any = getattr(message, descriptor.name)
            for part in [below.add() for _ in range(chance.randint(0, 3))] if descriptor.is_repeated else [below]:
                part.SetInParent()
                self.message(chance, part, bold, depth + 1)
            return
        values = [self._value(chance, descriptor, message, bold) for _ in range(chance.randint(1, 4))]
        if descriptor.is_repeated:
            getattr(message, descriptor.name).extend(values)
        else:
            setattr(message, descriptor.name, values[0])

    def _value(self, chance: random.Random, descriptor: Any, message: Message, bold: float) -> Any:
        if descriptor.type == FieldDescriptor.TYPE_STRING:
            return self._text(chance, descriptor.name, bold)
        if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.randint(0, 300))
        if descriptor.type == FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        if descriptor.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
            return chance.choice(FLOATS) if chance.random() < bold else float(chance.randint(0, 100))
        if descriptor.type == FieldDescriptor.TYPE_ENUM:
            return chance.choice([0, 1, 2, 3]) if chance.random() >= bold else 99
        number = chance.choice(NUMBERS) if chance.random() < bold else chance.randint(1, 50)
        return max(-(2**31), min(2**31 - 1, number)) if "32" in _cpp_name(descriptor) else number

    def _text(self, chance: random.Random, name: str, bold: float) -> str:
        known = [*WORDS.get(name, ()), *self.seen.get(name, ())] or ["name", "two words"]
        text: str = chance.choice(PATHS_OF_MASKS if name == "paths" else known)
        if (draw := chance.random()) >= bold:
            return text
        if draw < 0.7 * bold:
            return chance.choice(texts.ALL)
        place = chance.randint(0, len(text))
        return (
            text[:place] + chr(chance.choice((0x30, 0x41, 0x7F, 0xE9, 0x1F4A3))) + text[place + chance.randint(0, 2) :]
        )

    def _metadata(
        self, chance: random.Random, right: tuple[tuple[str, str | bytes], ...]
    ) -> tuple[tuple[str, str | bytes], ...]:
        token = str(right[0][1])
        number = chance.choice(("", "x", "-1", "1", "٣", "1e3", "9" * 19, "9" * 30, " 1", "0x1")).encode(
            "ascii", "ignore"
        )
        tricks: list[tuple[tuple[str, str | bytes], ...]] = [
            (),
            (("authorization", token[:-1]),),
            (("authorization", token + "A"),),
            (("authorization", token.removeprefix("Bearer ")),),
            (("authorization", "Basic YWRtaW46YWRtaW4="),),
            (("authorization", "bearer " + "x" * chance.choice((1, 43, 4000))),),
            (*right, *right),
            (*right, ("nofx-min-revision", number.decode())),
            (*right, ("nofx-min-revision", "1"), ("nofx-min-revision", "x")),
            (*right, ("grpc-status-details-bin", chance.randbytes(50)), ("x-bin", chance.randbytes(500))),
            (*right, ("authorization-bin", chance.randbytes(32)), ("traceparent", "00-zz")),
            (*right, *((f"x-{n}", "v" * 20) for n in range(chance.choice((20, 200))))),
            (*right, ("x-long", "v" * chance.choice((2000, 20_000)))),
            (*right, ("user-agent", "'; drop table users"), ("x-forwarded-for", "127.0.0.1"), ("x-user-id", "default")),
        ]
        return chance.choice(tricks)


def _share(descriptor: Any, depth: int) -> float:  # Any: protobuf has two classes of descriptors, with one base
    """How often a field is set: what a request cannot do without nearly always, a page token seldom."""
    if descriptor.name == "page_token":
        return 0.25
    needed = descriptor.name in WORDS or descriptor.name == "code" or descriptor.message_type is not None
    return 0.95 if needed and depth < 2 else 0.5


def _cpp_name(descriptor: Any) -> str:
    wide = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
    return "64" if descriptor.cpp_type in wide else "32"


def _likely(inputs: Inputs, chance: random.Random, method: MethodDescriptor) -> bytes:
    """A request of the right form, with values that are mostly right too."""
    return inputs.message(chance, GetMessageClass(method.input_type)(), 0.01).SerializeToString()


def _odd(inputs: Inputs, chance: random.Random, method: MethodDescriptor) -> bytes:
    """A request of the right form, with odd values."""
    return inputs.message(chance, GetMessageClass(method.input_type)(), 0.25).SerializeToString()


def _mutated(inputs: Inputs, chance: random.Random, method: MethodDescriptor) -> bytes:
    """The same, with a few bytes flipped, cut out, doubled, put in, or those of another request behind it."""
    raw = bytearray(_likely(inputs, chance, method))
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(raw))
        end = place + chance.randint(1, 8)
        match chance.randint(0, 5):
            case 0 if place < len(raw):
                raw[place] ^= 1 << chance.randint(0, 7)
            case 1:
                del raw[place:end]
            case 2:
                raw[place:place] = raw[place:end]
            case 3:
                raw[place:place] = chance.randbytes(chance.randint(1, 6))
            case 4:
                raw += _odd(inputs, chance, METHODS[chance.choice(NAMES)])
            case _:
                del raw[place:]
    return bytes(raw)


def _random(_inputs: Inputs, chance: random.Random, _method: MethodDescriptor) -> bytes:
    """Bytes of chance, or what trips parsers: lengths without end, groups in groups."""
    if chance.random() < 0.2:
        return chance.choice(DEEP)
    return chance.randbytes(chance.choice((0, 1, 2, 8, 40, 400, 5000)))


KINDS: list[tuple[str, Callable[[Inputs, random.Random, MethodDescriptor], bytes]]] = [
    ("likely", _likely),
    ("likely", _likely),
    ("odd", _odd),
    ("mutated", _mutated),
    ("random", _random),
]
PATHS_OF_MASKS = sorted(
    {
        below.name
        for m in METHODS.values()
        for f in m.input_type.fields
        if f.message_type
        for below in f.message_type.fields
    }
)
