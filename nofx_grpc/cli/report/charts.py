"""The charts of the report, as SVG without scripts."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from nofx_grpc.cli.wording import money, percent
from nofx_grpc.redaction import escaped
from nofx_grpc.v1 import performance_pb2 as pb

# pygal adds a finder for its maps that Python has no use for since 3.4, and over which others stumble.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_WIDTH: Final = 960
_TICKS: Final = 5
_MOST_POINTS: Final = 1_000  # more than a screen has dots for
_MOST_SYMBOLS: Final = 20
_BLUE, _GREY, _GREEN, _RED = "#1d4ed8", "#94a3b8", "#4ade80", "#f87171"


def equity_chart(curve: Sequence[pb.EquityPoint]) -> str:
    """Equity and wallet over time."""
    points = _thinned(curve)
    chart = _over_time(points, colors=(_BLUE, _GREY), height=300, show_legend=True)
    chart.add("equity", [(_seconds(point), point.equity) for point in points], stroke_style={"width": 2})
    chart.add("wallet", [(_seconds(point), point.balance) for point in points], stroke_style={"width": 1.5})
    return _svg(chart)


def drawdown_chart(curve: Sequence[pb.EquityPoint]) -> str:
    """How far equity was below its peak, in percent."""
    peak, falls = 0.0, []
    for point in curve:
        peak = max(peak, point.equity)
        falls.append((_seconds(point), (point.equity / peak - 1) * 100 if peak > 0 else 0.0))
    chart = _over_time(curve, colors=(_RED,), height=180, fill=True, value_formatter=percent)
    chart.add("drawdown", _thinned(falls), stroke_style={"width": 1.5})
    return _svg(chart)


def symbols_chart(symbols: Sequence[pb.SymbolPerformance]) -> str:
    """What was won and lost on each symbol, for the symbols that moved most."""
    most = sorted(symbols, key=lambda symbol: symbol.total_lost - symbol.total_won)[:_MOST_SYMBOLS]
    chart = pygal.HorizontalBar(
        **_options(height=90 + 46 * len(most), colors=(_GREEN, _RED), show_legend=True),
        value_formatter=money,
        truncate_label=24,
        print_values=True,
    )
    bottom_up = list(reversed(most))
    chart.x_labels = [escaped(symbol.symbol) for symbol in bottom_up]
    chart.add("won", [symbol.total_won or None for symbol in bottom_up])
    chart.add("lost", [symbol.total_lost or None for symbol in bottom_up])
    return _svg(chart)


def _over_time(points: Sequence[pb.EquityPoint], **options: Any) -> Any:
    """A chart of lines whose abscissa is the time of the points."""
    first, last = _seconds(points[0]), _seconds(points[-1])
    step = (last - first) / (_TICKS - 1)
    pattern = "%d %b %H:%M" if last - first < 10 * 86_400 else "%d %b %Y"
    chart = pygal.XY(
        **_options(**{"value_formatter": money} | options),
        show_dots=False,
        x_value_formatter=lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime(pattern),
    )
    chart.x_labels = sorted({first + step * tick for tick in range(_TICKS)})
    return chart


def _options(*, height: int, colors: Sequence[str], **more: Any) -> dict[str, Any]:
    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#475569",
        foreground_strong="#0f172a",
        foreground_subtle="#cbd5e1",
        guide_stroke_color="#e2e8f0",
        major_guide_stroke_color="#cbd5e1",
        colors=tuple(colors),
        opacity=".25" if more.get("fill") else "1",
        stroke_opacity="1",
        font_family="system-ui, sans-serif",
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=12,
        value_font_size=11,
        value_colors=("#0f172a",) * len(colors),
    )
    shown = {"show_legend": False, "legend_at_bottom": True, "legend_box_size": 10, "margin": 10, "margin_right": 48}
    return {"style": style, "js": [], "width": _WIDTH, "height": height} | shown | more


def _thinned(points: Sequence[Any]) -> Sequence[Any]:
    """Every so many of the points, and the last one."""
    step = len(points) // _MOST_POINTS + 1
    return [*points[:-1:step], points[-1]]


def _seconds(point: pb.EquityPoint) -> float:
    return point.time.seconds + point.time.nanos / 1e9


def _svg(chart: Any) -> str:
    chart.add_xml_filter(_without_scripts)
    drawn: bytes = chart.render()
    return drawn.decode()


def _without_scripts(root: ElementTree.Element) -> ElementTree.Element:
    """The same drawing without what pygal adds for its tooltips."""
    for parent in list(root.iter()):
        for child in list(parent):
            if str(child.tag).endswith("}script"):  # a name begins with that of its vocabulary
                parent.remove(child)
    return root
