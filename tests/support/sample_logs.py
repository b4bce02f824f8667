"""The decision logs of the sample installation, and what its program made of them."""

import json
import re
from datetime import datetime
from math import isclose
from pathlib import Path
from typing import Any

from nofx_grpc.analysis.actions import Action, make_action
from nofx_grpc.analysis.equity import make_point
from nofx_grpc.analysis.performance import Cycle

SAMPLE = Path(__file__).parents[1] / "data/nofx-sample"
LOGS = SAMPLE / "decision_logs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((SAMPLE / "expected_logs.json").read_text())["decision_logs"]


def nanoseconds(text: str) -> int:
    """An RFC 3339 time with up to nine digits, as nanoseconds since 1970."""
    seconds, _, rest = text.partition(".")
    digits = rest[:-6] if rest else ""
    zone = text[-6:]
    whole = datetime.fromisoformat(f"{seconds[:19]}{zone}")
    return int(whole.timestamp()) * 10**9 + int(digits.ljust(9, "0"))


def go_duration(text: str) -> int:
    """Nanoseconds of a duration such as -1h2m3.5s, as Go writes it."""
    match = re.fullmatch(r"(-?)(?:(\d+)h)?(?:(\d+)m)?(\d+)(?:\.(\d+))?s", text)
    assert match, text
    sign, hours, minutes, seconds, digits = match.groups(default="0")
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole * 10**9 + int(digits.ljust(9, "0"))) * (-1 if sign == "-" else 1)


def differences(found: Any, expected: Any, at: str = "") -> list[str]:
    """Where two structures differ: numbers in more than a billionth, anything else at all."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        return [line for key in found for line in differences(found[key], expected[key], f"{at}.{key}")]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for number, pair in pairs for line in differences(*pair, f"{at}[{number}]")]
    if isinstance(found, float) and isinstance(expected, int | float):
        return [] if isclose(found, expected, rel_tol=1e-9) else [f"{at}: {found} is not {expected}"]
    return [] if found == expected else [f"{at}: {found!r} is not {expected!r}"]


def cycles(trader: str) -> list[Cycle]:
    """The cycles of a trader of the sample, in the order of the files' names."""
    return [_cycle(json.loads(path.read_text())) for path in sorted((LOGS / trader).iterdir())]


def _cycle(record: dict[str, Any]) -> Cycle:
    account = record["account_state"]
    time = nanoseconds(record["timestamp"])
    point = make_point(time, account["total_balance"], account["total_unrealized_profit"])
    found = [_action(entry) for entry in record["decisions"] or () if entry["success"]]
    return Cycle(point, [action for action in found if action])


def _action(entry: dict[str, Any]) -> Action | None:
    time = nanoseconds(entry["timestamp"])
    return make_action(entry["action"], entry["symbol"], entry["quantity"], entry["price"], entry["leverage"], time)
