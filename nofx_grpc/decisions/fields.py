"""The fields of a record: how each is called in the JSON and in the proto, and what it holds."""

from enum import Enum, auto
from typing import Final, NamedTuple


class Holds(Enum):
    """What a field holds."""

    TEXT = auto()
    FLAG = auto()
    INTEGER = auto()  # 64 bits
    NUMBER = auto()
    TIME = auto()
    MILLISECONDS = auto()
    TEXTS = auto()
    OBJECT = auto()
    OBJECTS = auto()


class Field(NamedTuple):
    """One field.  `always`: a list that NOFX writes even if it is empty."""

    json: str
    proto: str
    holds: Holds
    inside: "tuple[Field, ...]" = ()
    always: bool = False


def _same(holds: Holds, *names: str) -> tuple[Field, ...]:
    return tuple(Field(name, name, holds) for name in names)


ACCOUNT: Final = (
    *_same(Holds.NUMBER, "total_balance", "available_balance", "total_unrealized_profit"),
    *_same(Holds.INTEGER, "position_count"),
    *_same(Holds.NUMBER, "margin_used_pct", "initial_balance"),
)
POSITION: Final = (
    *_same(Holds.TEXT, "symbol", "side"),
    *_same(Holds.NUMBER, "position_amt", "entry_price", "mark_price", "unrealized_profit", "leverage"),
    *_same(Holds.NUMBER, "liquidation_price"),
)
EXECUTED: Final = (
    *_same(Holds.TEXT, "action", "symbol"),
    *_same(Holds.NUMBER, "quantity"),
    *_same(Holds.INTEGER, "leverage"),
    *_same(Holds.NUMBER, "price"),
    *_same(Holds.INTEGER, "order_id"),
    Field("timestamp", "time", Holds.TIME),
    *_same(Holds.FLAG, "success"),
    *_same(Holds.TEXT, "error"),
)
PROPOSED: Final = (
    *_same(Holds.TEXT, "symbol", "action"),
    *_same(Holds.NUMBER, "leverage", "position_size_usd", "stop_loss", "take_profit", "new_stop_loss"),
    *_same(Holds.NUMBER, "new_take_profit", "close_percentage", "confidence", "risk_usd"),
    *_same(Holds.TEXT, "reasoning"),
)
# In the order in which NOFX writes them, ours beside what they belong to.
RECORD: Final = (
    Field("timestamp", "time", Holds.TIME),
    *_same(Holds.INTEGER, "cycle_number"),
    *_same(Holds.TEXT, "ai_model", "exchange", "system_prompt", "input_prompt", "cot_trace", "decision_json"),
    *_same(Holds.TEXT, "raw_response"),
    Field("account_state", "account_state", Holds.OBJECT, ACCOUNT),
    Field("positions", "positions", Holds.OBJECTS, POSITION, always=True),
    Field("candidate_coins", "candidate_coins", Holds.TEXTS, always=True),
    Field("decisions", "decisions", Holds.OBJECTS, EXECUTED, always=True),
    Field("execution_log", "execution_log", Holds.TEXTS, always=True),
    *_same(Holds.TEXTS, "risk_notes"),
    *_same(Holds.FLAG, "success"),
    *_same(Holds.TEXT, "error_message"),
    Field("ai_request_duration_ms", "ai_request_duration", Holds.MILLISECONDS),
)
