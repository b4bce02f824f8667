"""The page: its template, and how it shows numbers, times and what agents wrote."""

from base64 import b64encode
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nofx_grpc.cli.decisions import TraderRecord
from nofx_grpc.cli.report.charts import drawdown_chart, equity_chart, symbols_chart
from nofx_grpc.cli.wording import amount, clock, deed, money, percent, period, ratio, shown, side

_HERE = Path(__file__).parent


def render(record: TraderRecord, now: datetime) -> str:
    """The page as HTML.  It has no script, asks for nothing from anywhere, and says so to the browser."""
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    curve, symbols = record.performance.equity_curve, record.performance.actual.symbols
    charts = {
        "equity": equity_chart(curve) if curve else "",
        "drawdown": drawdown_chart(curve) if curve else "",
        "symbols": symbols_chart(symbols) if symbols else "",
    }
    made = Timestamp()
    made.FromDatetime(now)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            trader_id=record.trader_id,
            statistics=record.statistics,
            performance=record.performance,
            decisions=record.decisions,
            made=made,
            charts=charts,
            policy=_policy(style),
            style=Markup(style),  # noqa: S704  # our own file, which the policy names by its hash
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, finalize=_finalized
    )
    environment.filters |= {
        "amount": amount,
        "clock": clock,
        "data_uri": _data_uri,
        "deed": deed,
        "money": money,
        "percent": percent,
        "period": period,
        "ratio": ratio,
        "side": side,
    }
    return environment


def _finalized(value: object) -> object:
    """What goes into the page: texts without what could reorder or hide them.  They are escaped after this."""
    return shown(value) if type(value) is str else value


def _policy(style: str) -> str:
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
