"""How the commands about decisions put numbers, times and actions into words."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.redaction import escaped
from nofx_grpc.v1 import decision_logs_pb2, performance_pb2

_LARGE = 1e12  # from here on digits are no help


def shown(text: str) -> str:
    """What an agent wrote, in its lines, with everything escaped that could steer a terminal or reorder the text."""
    return "\n".join(escaped(line.replace("\t", "    ")) for line in text.splitlines())


def money(value: float, *, sign: bool = False) -> str:
    """An amount of the account's currency."""
    plus = "+" if sign else ""
    return format(value, f"{plus},.2f" if abs(value) < _LARGE else f"{plus}.3g")


def percent(value: float) -> str:
    return f"{value:,.2f} %" if abs(value) < _LARGE else f"{value:.3g} %"


def ratio(value: float) -> str:
    return f"{value:,.3f}" if abs(value) < _LARGE else f"{value:.3g}"


def amount(value: float) -> str:
    """A price or a quantity: eight digits that count."""
    return f"{value:,.8g}"


def clock(time: Timestamp) -> str:
    """The time in UTC, to the second."""
    return time.ToJsonString()[:19].replace("T", " ")


def period(duration: Duration) -> str:
    """A duration in its two largest units, as 1h 12m."""
    seconds = abs(duration.seconds)
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{name}")
    return ("-" if duration.seconds < 0 else "") + (" ".join(parts[:2]) or "0s")


def side(value: performance_pb2.PositionSide.ValueType) -> str:
    return performance_pb2.PositionSide.Name(value).removeprefix("POSITION_SIDE_").lower()


def deed(action: decision_logs_pb2.ExecutedAction) -> str:
    """What was done, in one line: open_long BTCUSDT 0.5 at 96,000 ×5."""
    words = [action.action, action.symbol]
    if action.quantity:
        words.append(amount(action.quantity))
    if action.price:
        words.append(f"at {amount(action.price)}")
    if action.leverage:
        words.append(f"×{action.leverage}")
    return escaped(" ".join(words))
