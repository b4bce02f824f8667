"""The system configuration: kept as it is, secrets sealed, a JWT secret that is no secret replaced."""

from collections.abc import Callable

import pytest

from nofx_grpc.services.config_keys import PUBLISHED_SECRETS
from tests.support.adoption import Adopted
from tests.support.nofx_db import UPDATED, NofxDatabase

AdoptIt = Callable[[], Adopted]


def test_unknown_keys_are_kept_and_told(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.config("telegram_chat", "12345")
    found = adopted()
    [row] = [row for row in found.table("system_config") if row["key"] == "telegram_chat"]
    assert (row["value"], row["updated_at"], row["revision"]) == ("12345", UPDATED, 1)
    assert [problem.key for problem in found.problems("unknown_config_key")] == ["telegram_chat"]


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_jwt_secret_is_replaced(nofx: NofxDatabase, adopted: AdoptIt, value: str | None) -> None:
    nofx.connection.execute("DROP TABLE system_config")
    nofx.connection.execute("CREATE TABLE system_config (key TEXT, value TEXT, updated_at DATETIME)")
    nofx.config("jwt_secret", value)
    found = adopted()
    assert len(found.secret("system_config", "value", "", "jwt_secret")) >= 32
    assert found.problems("jwt_secret_replaced")


@pytest.mark.parametrize("value", sorted(PUBLISHED_SECRETS))
def test_a_published_jwt_secret_is_replaced(nofx: NofxDatabase, adopted: AdoptIt, value: str) -> None:
    nofx.config("jwt_secret", value)
    found = adopted()
    assert found.secret("system_config", "value", "", "jwt_secret") not in (value, "")
    [problem] = found.problems("jwt_secret_published")
    assert value not in problem.detail
    assert found.problems("config_value_invalid") == []


def test_urls_are_sealed_and_shown_without_credentials(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.config("oi_top_api_url", "https://user:pass@oi.example:8443/top?key=abc")
    found = adopted()
    [row] = [row for row in found.table("system_config") if row["key"] == "oi_top_api_url"]
    assert row["value"].endswith(":https://oi.example:8443/top")
    secret = found.secret("system_config", "value", "", "oi_top_api_url")
    assert secret == "https://user:pass@oi.example:8443/top?key=abc"


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_drawdown", "a lot"), ("beta_mode", "maybe"), ("default_coins", "no coins"), ("jwt_secret", "short")],
)
def test_invalid_values_are_kept_and_told(nofx: NofxDatabase, adopted: AdoptIt, key: str, value: str) -> None:
    nofx.config(key, value)
    found = adopted()
    [row] = [row for row in found.table("system_config") if row["key"] == key]
    if key == "jwt_secret":
        assert found.secret("system_config", "value", "", key) == value
    else:
        assert row["value"] == value
    [problem] = found.problems("config_value_invalid")
    assert problem.key == key
    assert value not in problem.detail


def test_what_the_source_lacks_has_its_default(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.config("beta_mode", "true")
    values = {row["key"]: row["value"] for row in adopted().table("system_config")}
    assert values["beta_mode"] == "true"
    assert values["max_daily_loss"] == "10.0"


def test_beta_codes_are_kept(nofx: NofxDatabase, adopted: AdoptIt) -> None:
    nofx.insert("beta_codes", code="FREE", used=0, created_at="2025-11-10 02:00:10")
    nofx.insert("beta_codes", code="SPENT", used=1, used_by="a@x", used_at="2025-11-10 02:00:13", created_at=UPDATED)
    nofx.insert("beta_codes", code="\ufeffMARKED", used=0, created_at=UPDATED)
    found = adopted()
    codes = {
        row["code"]: (row["used"], row["used_by"], row["used_at"], row["updated_at"])
        for row in found.table("beta_codes")
    }
    assert codes == {
        "FREE": (0, "", None, "2025-11-10 02:00:10"),
        "SPENT": (1, "a@x", "2025-11-10 02:00:13", "2025-11-10 02:00:13"),
        "\ufeffMARKED": (0, "", None, UPDATED),
    }
    assert [problem.key for problem in found.problems("control_characters")] == ["\ufeffMARKED"]
