"""Rows as NOFX really has them: without columns, with NULL, with values of any type, with keys that are twice there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.adoption import Adopted, adopt
from tests.support.nofx_db import CREATED, UPDATED, NofxDatabase

AdoptIt = Callable[[], Adopted]

# What NOFX reads NULL as (its notes and the sample's expected.json).
NULLS: dict[str, Any] = {
    "scan_interval_minutes": 3,
    "is_running": 0,
    "btc_eth_leverage": 5,
    "altcoin_leverage": 5,
    "trading_symbols": "",
    "use_coin_pool": 0,
    "use_oi_top": 0,
    "custom_prompt": "",
    "override_base_prompt": 0,
    "is_cross_margin": 1,
    "use_default_coins": 0,
    "custom_coins": "",
    "system_prompt_template": "default",
}


def test_null_is_what_nofx_reads_it_as(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.trader(id="t2", **dict.fromkeys(NULLS))
    nofx.model("m2", custom_api_url=None, custom_model_name=None, api_key=None, enabled=None)
    nofx.exchange("okx", hyperliquid_wallet_addr=None, aster_user=None, aster_signer=None, aster_private_key=None)
    found = adopted()
    trader = found.row("traders", "t2")
    assert {name: trader[name] for name in NULLS} == NULLS
    assert found.row("ai_models", "m2")["custom_model_name"] == ""
    assert found.row("exchanges", "okx")["aster_user"] == ""
    assert {problem.code for problem in found.report.problems} <= {"default_user_has_no_row"}


def test_columns_that_came_later_may_be_missing(tmp_path: Path) -> None:
    nofx = NofxDatabase(tmp_path / "config.db", complete=False, single_key=True)
    nofx.complete_user()
    found = adopt(nofx.close(), tmp_path / "data")
    trader = found.row("traders", "t1")
    assert (trader["btc_eth_leverage"], trader["system_prompt_template"], trader["use_default_coins"]) == (
        5,
        "default",
        1,
    )
    assert found.secret("exchanges", "api_key", "u1", "binance") == "exchange-api-key"
    missing = {(problem.table, problem.detail.split(":")[0]) for problem in found.problems("column_missing")}
    assert {("traders", "use_oi_top"), ("ai_models", "custom_api_url"), ("exchanges", "aster_user")} <= missing


def test_rows_that_are_only_in_the_leftover_of_a_rebuild_are_adopted(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.create_exchanges("exchanges_new")
    nofx.exchange("binance", table="exchanges_new", api_key="an older key")
    nofx.exchange("aster", table="exchanges_new", aster_private_key="0xkey")
    nofx.trader("t2", exchange_id="aster")
    found = adopted()
    assert found.secret("exchanges", "api_key", "u1", "binance") == "exchange-api-key"
    assert found.secret("exchanges", "aster_private_key", "u1", "aster") == "0xkey"
    assert found.row("traders", "t2")["exchange_id"] == "aster"
    [problem] = found.problems("duplicate_key")
    assert (problem.table, problem.key) == ("exchanges_new", ["binance", "u1"])
    [(table, _, code, content)] = found.aside()
    assert (table, code) == ("exchanges_new", "duplicate_key")
    assert "an older key" in content
    assert found.problems("leftover_table")
    counts = found.report.tables["exchanges_new"]
    assert (counts.read, counts.adopted, counts.set_aside) == (2, 1, 1)


def test_a_rebuild_that_dropped_the_table_first_loses_nothing(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.connection.execute("ALTER TABLE exchanges RENAME TO exchanges_new")
    assert adopted().secret("exchanges", "secret_key", "u1", "binance") == "exchange-secret"


def test_a_model_may_be_named_by_its_provider(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.model("u1_b_qwen", provider="qwen")
    nofx.model("u1_a_qwen", provider="qwen")
    nofx.user("u2")
    nofx.model("a_qwen_of_another", "u2", provider="qwen")
    nofx.trader("t2", ai_model_id="qwen")
    found = adopted()
    assert found.row("traders", "t2")["ai_model_id"] == "u1_a_qwen"
    [problem] = found.problems("model_by_provider")
    assert problem.key == "t2"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"user_id": "gone"}, "owner_missing"),
        ({"ai_model_id": "gone"}, "model_missing"),
        ({"exchange_id": "gone"}, "exchange_missing"),
        ({"ai_model_id": "of_another"}, "model_missing"),
        ({"exchange_id": "aster"}, "exchange_missing"),
        ({"id": ""}, "key_missing"),
        ({"id": None}, "key_missing"),
    ],
)
def test_orphaned_traders_are_set_aside(
    nofx: NofxDatabase, adopted: AdoptIt, values: dict[str, Any], code: str
) -> None:
    nofx.complete_user()
    nofx.user("u2")
    nofx.model("of_another", "u2", provider="other")
    nofx.exchange("aster", "u2")
    nofx.trader(**({"id": "t2", "name": "Orphan 🚀"} | values))
    found = adopted()
    assert [row["id"] for row in found.table("traders")] == ["t1"]
    assert [problem.severity for problem in found.problems(code)] == ["error"]
    [(table, _, kept, content)] = found.aside()
    assert (table, kept) == ("traders", code)
    assert "Orphan 🚀" in content


def test_what_belongs_to_a_missing_user_is_set_aside_sealed(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user()
    nofx.model("m", "gone", api_key="sk-orphan")
    nofx.exchange("binance", "gone", api_key="orphan-api-key")
    nofx.insert("user_signal_sources", user_id="gone", coin_pool_url="http://x.example/?auth=orphan")
    found = adopted()
    assert sorted(problem.table for problem in found.problems("owner_missing")) == [
        "ai_models",
        "exchanges",
        "user_signal_sources",
    ]
    assert sum("orphan" in content for *_, content in found.aside()) == 3
    written = found.target.read_bytes()
    assert b"orphan-api-key" not in written
    assert b"sk-orphan" not in written


def test_templates_of_the_source_replace_the_seeded_ones(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.model("deepseek", "default", name="Mine", enabled=0)
    nofx.exchange("okx", "default", type="okx")
    nofx.trader("t1", "default", ai_model_id="deepseek", exchange_id="okx")
    found = adopted()
    assert [(row["id"], row["name"]) for row in found.table("ai_models")] == [("deepseek", "Mine")]
    assert [row["id"] for row in found.table("exchanges")] == ["okx"]
    assert found.row("traders", "t1")["user_id"] == "default"
    assert found.problems("default_user_has_no_row")


def test_seeded_templates_stay_where_the_source_has_none(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user()
    nofx.model("deepseek", "u1")
    found = adopted()
    assert {(row["id"], row["user_id"]) for row in found.table("ai_models")} == {
        ("deepseek", "u1"),
        ("qwen", "default"),
    }
    assert {row["id"] for row in found.table("exchanges")} == {"aster", "binance", "hyperliquid"}
    assert not found.problems("default_user_has_no_row")


def test_twin_emails_keep_their_exact_form(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user("a-young", email="Ann@Example.com", otp_secret="A7PL4YYIDCAOWIOG4S7DJEN5AINLGFU3")
    nofx.connection.execute("UPDATE users SET created_at = '2025-12-01 00:00:00'")
    nofx.user("old", email="ann@example.com")
    nofx.user("odd", email="ANN@EXAMPLE.COM")
    found = adopted()
    keys = {row["id"]: (row["email"], row["email_key"]) for row in found.table("users") if row["id"] != "default"}
    assert keys == {
        "odd": ("ANN@EXAMPLE.COM", "ann@example.com"),
        "old": ("ann@example.com", "exact:ann@example.com"),
        "a-young": ("Ann@Example.com", "exact:Ann@Example.com"),
    }
    assert {problem.key for problem in found.problems("email_differs_by_case")} == {"old", "a-young"}


def test_a_user_may_have_the_template_users_email(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user("u1", email="Default@localhost")
    found = adopted()
    assert found.row("users", "u1")["email_key"] == "default@localhost"
    assert found.row("users", "default")["email"] != "default@localhost"


def test_a_row_of_the_template_user_is_adopted(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user("default", email="templates@example.com", password_hash="")
    nofx.model("deepseek", "default")
    found = adopted()
    assert found.row("users", "default")["email"] == "templates@example.com"
    assert not found.problems("default_user_has_no_row")


def test_times_are_kept_exactly(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.connection.execute("UPDATE traders SET updated_at = '2025-11-11 03:01:06.123456'")
    found = adopted()
    trader = found.row("traders", "t1")
    assert (trader["created_at"], trader["updated_at"]) == (CREATED, "2025-11-11 03:01:06.123456")
    assert found.row("users", "u1")["updated_at"] == UPDATED


def test_ids_may_be_anything_printable(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    for id in ("binance_u1/../x y", "交易员 🚀", "a" * 512, "'; DROP TABLE traders; --", "%_\\"):
        nofx.trader(id)
    found = adopted()
    assert len(found.table("traders")) == 6
    assert not [problem for problem in found.report.problems if problem.table == "traders"]


def test_unknown_tables_and_columns_are_set_aside_and_told(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.complete_user()
    nofx.connection.execute("ALTER TABLE traders ADD COLUMN stop_loss TEXT")
    nofx.connection.execute("UPDATE traders SET stop_loss = '5%'")
    nofx.connection.execute('CREATE TABLE "odd ""table" (a, b)')
    nofx.connection.execute("""INSERT INTO "odd ""table" VALUES (1, x'00ff'), (2.5, NULL)""")
    found = adopted()
    assert [problem.detail for problem in found.problems("unknown_column")] == ["stop_loss: its values were set aside"]
    [unknown] = found.problems("unknown_table")
    assert unknown.table == 'odd "table'
    kept = {(table, key): content for table, key, _, content in found.aside()}
    assert kept["traders", "t1"] == '{"stop_loss": "5%"}'
    assert kept['odd "table', "row 1"] == '{"a": 1, "b": {"base64": "AP8="}}'
    assert len(kept) == 3


def test_a_signal_source_with_a_spent_id_gets_a_new_one(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.user("u1")
    nofx.user("u2")
    nofx.connection.execute("DROP TABLE user_signal_sources")
    nofx.connection.execute(
        "CREATE TABLE user_signal_sources (id, user_id, coin_pool_url, oi_top_url, created_at, updated_at)"
    )
    for user_id in ("u1", "u2", "u2"):
        nofx.insert("user_signal_sources", id=7, user_id=user_id, coin_pool_url="http://c.example", oi_top_url="")
    found = adopted()
    assert sorted(row["user_id"] for row in found.table("user_signal_sources")) == ["u1", "u2"]
    assert found.problems("duplicate_key")
