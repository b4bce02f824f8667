"""`nofx-grpc decisions show` and `report`, asked of a server that runs."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import browser
from tests.support.processes import environment, run, serving
from tests.support.sample_logs import EXPECTED, LOGS

TRADER = sorted(EXPECTED)[1]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a command beside a server that has the sample's decision logs."""
    directory = tmp_path_factory.mktemp("served")
    settings = environment(directory / "data")
    with serving(settings, directory / "log") as server:
        shutil.copytree(LOGS, server.data_dir / "decision_logs", dirs_exist_ok=True)
        yield settings | {"NOFX_GRPC_ADDRESS": server.address}


def test_show(env: dict[str, str]) -> None:
    shown = run("decisions", "show", TRADER, "--cycles", "5", env=env | {"COLUMNS": "200"})
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[:2] == [f"Trader {TRADER}", "41 cycles, 4 failed"]
    assert lines[2].startswith("Over the latest 41: -92.79 of 15 trades, win rate 40.00 %, profit factor 0.446")
    assert [line.split()[2] for line in lines if line.startswith("2025-")] == ["37", "38", "39", "40", "41"]
    [closed] = [line for line in lines if "close_long ETHUSDT at 3,125.76" in line]
    assert closed.endswith("+1.51")
    assert "\x1b" not in shown.stdout, "colours are for terminals"


def test_show_as_json(env: dict[str, str]) -> None:
    found = json.loads(run("decisions", "show", TRADER, "--cycles", "3", "--json", env=env).stdout)
    assert (found["trader_id"], found["statistics"]["total_cycles"], len(found["decisions"])) == (TRADER, "41", 3)
    assert found["performance"]["nofx"]["total_trades"] == EXPECTED[TRADER]["performance_lookback_100"]["total_trades"]


def test_report(env: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    made = run("decisions", "report", TRADER, "-o", str(page), env=env)
    assert (made.returncode, made.stdout) == (0, f"{page}: 41 decisions, 15 trades\n"), made.stderr
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page.as_uri())
        assert chromium.evaluate("document.title") == f"Trader {TRADER}"
        assert chromium.evaluate("[...document.images].filter(each => each.complete && each.naturalWidth).length") == 3
        assert chromium.evaluate("document.getElementById('decisions').rows.length") == 42
        assert chromium.complaints() == []
    # What agents wrote is there, in their own script.
    assert re.search("[\u4e00-\u9fff]", page.read_text(encoding="utf-8"))


def test_report_of_the_latest_cycles_on_standard_output(env: dict[str, str]) -> None:
    made = run("decisions", "report", TRADER, "-o", "-", "--cycles", "10", env=env)
    assert made.stdout.startswith("<!DOCTYPE html>") and made.stdout.endswith("</html>\n"), made.stderr
    assert "The latest 10 of 41 cycles" in made.stdout


def test_an_unknown_trader(env: dict[str, str], tmp_path: Path) -> None:
    for command in (["show", "nobody"], ["report", "nobody", "-o", str(tmp_path / "page.html")]):
        refused = run("decisions", *command, env=env)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "nobody" in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written(env: dict[str, str], tmp_path: Path) -> None:
    refused = run("decisions", "report", TRADER, "-o", str(tmp_path / "none" / "page.html"), env=env)
    assert refused.returncode == 1
    assert refused.stderr == f"nofx-grpc: {tmp_path}/none/page.html cannot be written: No such file or directory\n"
