"""The report in a browser: what a reader sees, and that an agent's words stay words."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nofx_grpc.analysis.ledger import Ledger
from nofx_grpc.analysis.performance import Window
from nofx_grpc.cli.decisions import TraderRecord
from nofx_grpc.cli.report.page import render
from nofx_grpc.services.performance_messages import performance_to_proto
from nofx_grpc.v1 import decision_logs_pb2, performance_pb2
from tests.support.browser import Browser, browser
from tests.support.sample_logs import EXPECTED, cycles

TRADER = next(iter(EXPECTED))
NOW = datetime(2025, 11, 19, tzinfo=UTC)
HOSTILE = [
    "<script>window.pwned = 1</script>",
    "</style></title></textarea><script>window.pwned = 2</script>",
    "\"><img src=x onerror='window.pwned = 3'>",
    "' onmouseover='window.pwned = 4' autofocus onfocus='window.pwned = 5'",
    "<svg onload=window.pwned=6><a href='javascript:window.pwned=7'>{{ 7 * 7 }}{% raw %}",
    "<iframe srcdoc='<script>parent.pwned = 8</script>'></iframe><meta http-equiv=refresh content='0;url=//x.example'>",
    "]]><![CDATA[<script>window.pwned = 9</script><!--",
]
# How many dots of a drawn image are neither white nor grey.
COLOURED = """[...document.images].map(image => {
  const canvas = document.createElement('canvas'); canvas.width = 960; canvas.height = 300;
  const context = canvas.getContext('2d'); context.drawImage(image, 0, 0, 960, 300);
  const dots = context.getImageData(0, 0, 960, 300).data; let count = 0;
  for (let i = 0; i < dots.length; i += 4)
    if (Math.max(dots[i], dots[i+1], dots[i+2]) - Math.min(dots[i], dots[i+1], dots[i+2]) > 60) count++;
  return count; })"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


def record() -> TraderRecord:
    """The performance of a trader of the sample, with a decision."""
    history = cycles(TRADER)
    performance = performance_to_proto(Window(history, Ledger(), history, history), 1000)
    statistics = performance_pb2.DecisionStatistics(**EXPECTED[TRADER]["statistics"])
    return TraderRecord(TRADER, statistics, performance, [decision("momentum fading", "BTCUSDT")])


def decision(text: str, symbol: str) -> decision_logs_pb2.Decision:
    """A decision that says the same in every place where an agent or an exchange can say something."""
    made = decision_logs_pb2.Decision(cycle_number=7, success=False, error_message=text)
    made.time.FromDatetime(NOW)
    made.account_state.total_balance = 1000
    made.decisions.add(action="open_long", symbol=symbol, quantity=0.5, price=96000, leverage=5, success=True)
    made.decisions.add(action=text, symbol=text, error=text)
    made.proposed_actions.add(symbol=symbol, reasoning=text)
    made.proposed_actions.add(symbol=symbol, reasoning=text + "x" * 200)
    return made


def hostile(text: str) -> TraderRecord:
    """A record whose every text is this one."""
    harmless = record()
    performance = harmless.performance
    for reading in (performance.actual, performance.nofx):
        reading.best_symbol = reading.worst_symbol = text
        for trade in reading.recent_trades:
            trade.symbol = text
        for symbol in reading.symbols:
            symbol.symbol = text
    performance.open_positions.add(symbol=text, side=performance_pb2.POSITION_SIDE_LONG)
    return replace(harmless, trader_id=text, decisions=[decision(text, text)])


def opened(chromium: Browser, path: Path, html: str) -> None:
    path.write_text(html, encoding="utf-8")
    chromium.open(path.as_uri())


def test_the_page_is_whole(chromium: Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path / "report.html", render(record(), NOW))
    assert chromium.evaluate("document.title") == f"Trader {TRADER}"
    assert chromium.complaints() == []
    drawn = chromium.evaluate(COLOURED)
    assert len(drawn) == 3 and min(drawn) > 500, drawn
    rows = chromium.evaluate(
        "['symbols', 'trades', 'decisions'].map(id => document.getElementById(id).rows.length - 1)"
    )
    assert rows == [5, 7, 1]
    assert chromium.evaluate("document.querySelector('#decisions').innerText").count("momentum fading") == 6


def test_the_page_asks_for_nothing_from_anywhere(chromium: Browser, tmp_path: Path) -> None:
    opened(chromium, tmp_path / "report.html", render(record(), NOW))
    assert {url.partition(":")[0] for url in chromium.requests()} == {"file", "data"}
    html = re.sub(r'src="data:[^"]*"', "", render(record(), NOW))
    assert re.findall(r"<(?:script|link|iframe|object|embed|form|base)\b|\b(?:src|href|on\w+)=", html) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_runs_a_script_or_makes_an_element(chromium: Browser, tmp_path: Path, text: str) -> None:
    opened(chromium, tmp_path / "report.html", render(record(), NOW))
    elements = "[...document.querySelectorAll('*')].map(e => e.tagName).sort().join()"
    attributes = "[...new Set([...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()))].sort().join()"
    usual = chromium.evaluate(attributes)
    opened(chromium, tmp_path / "hostile.html", render(hostile(text), NOW))
    assert chromium.evaluate("typeof window.pwned") == "undefined"
    assert chromium.complaints() == []
    assert chromium.evaluate(attributes) == usual
    tags = set(chromium.evaluate(elements).split(","))
    assert tags & {"SCRIPT", "IFRAME", "SVG", "A", "TEXTAREA", "FORM", "OBJECT"} == set()
    assert chromium.evaluate("document.images.length") == 3
    assert text in chromium.evaluate("document.querySelector('#decisions').textContent")
    assert chromium.evaluate("document.title") == f"Trader {text}"


def test_a_script_that_got_in_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    """What the page's policy does when escaping has failed."""
    smuggled = "".join(HOSTILE[:3]) + "<style>body { display: none }</style><p style='color: red' id='p'>"
    opened(chromium, tmp_path / "report.html", render(record(), NOW).replace("<h1>", f"{smuggled}<h1>"))
    assert chromium.evaluate("document.scripts.length") > 0, "the test has put some in"
    assert chromium.evaluate("typeof window.pwned") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in chromium.complaints())
    assert chromium.evaluate("getComputedStyle(document.body).display") == "block"


def test_characters_that_hide_or_reorder_are_shown_as_such() -> None:
    html = render(hostile("safe\u202etxt.exe\x1b[2J\x00\u200b\nsecond line"), NOW)
    assert not set(html) & {"\u202e", "\x1b", "\x00", "\u200b"}
    assert "safe\\u202etxt.exe\\x1b[2J\\x00\\u200b\nsecond line" in html


def test_a_trader_without_records_has_a_page(chromium: Browser, tmp_path: Path) -> None:
    nothing = TraderRecord("t-1", performance_pb2.DecisionStatistics(), performance_pb2.Performance(), [])
    opened(chromium, tmp_path / "report.html", render(nothing, NOW))
    assert "No cycles on record" in chromium.evaluate("document.body.innerText")
    assert (chromium.complaints(), chromium.evaluate("document.images.length")) == ([], 0)


def test_numbers_beyond_measure_do_not_break_the_page(chromium: Browser, tmp_path: Path) -> None:
    huge = record()
    for number, point in enumerate(huge.performance.equity_curve):
        point.equity = point.balance = (-1) ** number * 1e30
    for symbol in huge.performance.actual.symbols:
        symbol.total_won, symbol.total_lost = 1e60, -1e60
    opened(chromium, tmp_path / "report.html", render(huge, NOW))
    assert chromium.complaints() == []
    assert chromium.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
