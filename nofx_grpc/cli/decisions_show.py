"""`nofx-grpc decisions show`: the latest cycles of a trader, in the terminal."""

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nofx_grpc.cli.decisions import TraderRecord
from nofx_grpc.cli.wording import clock, deed, money, percent, ratio
from nofx_grpc.redaction import escaped
from nofx_grpc.v1 import decision_logs_pb2, performance_pb2

_OPENS, _CLOSES = ("open_",), ("close_", "auto_close_", "partial_close")


def show(record: TraderRecord, console: Console) -> None:
    """Print the trader's results and its decisions, the latest at the bottom, where a terminal is read."""
    console.print(Text(f"Trader {escaped(record.trader_id)}", style="bold"))
    for line in _summary(record):
        console.print(line)
    if record.decisions:
        console.print(_table(record))


def _summary(record: TraderRecord) -> Iterator[Text]:
    statistics, performance, reading = record.statistics, record.performance, record.performance.actual
    yield Text(f"{statistics.total_cycles} cycles, {statistics.failed_cycles} failed")
    if statistics.unreadable_files:
        yield Text(f"{statistics.unreadable_files} files are no records", style="yellow")
    if not performance.cycles:
        return
    parts = [
        Text(f"Over the latest {performance.cycles}: "),
        _signed(reading.total_pnl),
        Text(f" of {reading.total_trades} trades, win rate {percent(reading.win_rate)}"),
    ]
    if reading.HasField("profit_factor"):
        parts.append(Text(f", profit factor {ratio(reading.profit_factor)}"))
    if reading.HasField("sharpe_ratio"):
        parts.append(Text(f", Sharpe ratio {ratio(reading.sharpe_ratio)}"))
    if performance.HasField("max_drawdown"):
        parts.append(Text(f", worst drawdown {percent(performance.max_drawdown.percent)}"))
    yield Text.assemble(*parts)


def _table(record: TraderRecord) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Time (UTC)", no_wrap=True)
    table.add_column("Cycle", justify="right")
    table.add_column("Equity", justify="right")
    table.add_column("What was done", overflow="fold")
    table.add_column("Profit or loss", justify="right")
    trades = _by_end(record.performance.actual.recent_trades)
    for decision in reversed(record.decisions):
        account = decision.account_state
        equity = account.total_balance + account.total_unrealized_profit
        table.add_row(
            clock(decision.time),
            str(decision.cycle_number),
            money(equity) if account.total_balance > 0 else "–",
            Text("\n").join(_deeds(decision)),
            Text("\n").join(_signed(pnl) for pnl in _pnls(decision, trades)),
        )
    return table


def _deeds(decision: decision_logs_pb2.Decision) -> Iterable[Text]:
    if not decision.success:
        yield Text(f"failed: {escaped(decision.error_message) or 'no reason given'}", style="red")
    for action in decision.decisions:
        if not action.success:
            yield Text(f"{deed(action)}: {escaped(action.error) or 'failed'}", style="red")
        elif action.action.startswith(_OPENS):
            yield Text(deed(action), style="cyan")
        elif action.action.startswith(_CLOSES):
            yield Text(deed(action), style="bold")
        else:
            yield Text(deed(action), style="dim")


End = tuple[str, int, int]


def _by_end(trades: Iterable[performance_pb2.Trade]) -> dict[End, list[float]]:
    """The results of trades by what they ended with: two sides of a symbol may end at one time."""
    found: dict[End, list[float]] = {}
    for trade in trades:
        found.setdefault((trade.symbol, trade.close_time.seconds, trade.close_time.nanos), []).append(trade.pnl)
    return found


def _pnls(decision: decision_logs_pb2.Decision, trades: Mapping[End, list[float]]) -> Iterator[float]:
    """The results of the trades that ended in a cycle."""
    closes = [action for action in decision.decisions if action.success and action.action.startswith(_CLOSES)]
    for end in dict.fromkeys(_end(action, decision) for action in closes):
        yield from trades.get(end, ())


def _end(action: decision_logs_pb2.ExecutedAction, decision: decision_logs_pb2.Decision) -> End:
    """As the analysis has it: an action without a time of its own, or with Go's zero time, has its cycle's."""
    time = action.time if action.time.seconds > 0 else decision.time
    return action.symbol, time.seconds, time.nanos


def _signed(value: float) -> Text:
    return Text(money(value, sign=True), style="green" if value > 0 else "red" if value < 0 else "")
