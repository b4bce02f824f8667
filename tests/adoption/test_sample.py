"""The sample of a NOFX installation: adopted row by row, secrets included, and every problem told."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.adoption import Adopted, adopt
from tests.support.files import snapshot

SAMPLE = Path(__file__).parents[1] / "data/nofx-sample"
EXPECTED: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text())
DATABASE = EXPECTED["databases"]["config.db"]
SECRETS = {
    "users": ("otp_secret",),
    "ai_models": ("api_key", "custom_api_url"),
    "exchanges": ("api_key", "secret_key", "aster_private_key"),
    "user_signal_sources": ("coin_pool_url", "oi_top_url"),
}
SECRET_KEYS = ("jwt_secret", "coin_pool_api_url", "oi_top_api_url")


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    directory = tmp_path_factory.mktemp("sample")
    return adopt(Path(shutil.copy(SAMPLE / "config.db", directory / "config.db")), directory / "data")


@pytest.mark.parametrize("table", [name for name in DATABASE["counts"] if name != "system_config"])
def test_every_row_is_adopted_as_it_was(adopted: Adopted, table: str) -> None:
    key = ("code",) if table == "beta_codes" else ("id", "user_id") if table == "exchanges" else ("id",)
    found = {tuple(row[name] for name in key): row for row in adopted.table(table)}
    for expected in DATABASE["rows"][table]:
        row = found.pop(tuple(expected[name] for name in key))
        assert row["revision"] == 1
        user_id, row_id = secret_place(table, expected)
        for name, value in expected.items():
            if name in SECRETS.get(table, ()):
                assert adopted.secret(table, name, user_id, row_id) == (value or ""), name
            elif not name.startswith("_"):
                assert row[name] == value, name
    assert set(found) <= {("default",)}


def secret_place(table: str, row: dict[str, Any]) -> tuple[str, str]:
    if table == "users":
        return row["id"], ""
    return row.get("user_id", ""), "" if table == "user_signal_sources" else row.get("id", "")


def test_every_setting_is_adopted(adopted: Adopted) -> None:
    found = {row["key"]: row for row in adopted.rows("SELECT * FROM system_config")}
    for expected in DATABASE["rows"]["system_config"]:
        key = expected["key"]
        assert found[key]["updated_at"] == expected["updated_at"]
        value = adopted.secret("system_config", "value", "", key) if key in SECRET_KEYS else found[key]["value"]
        assert value == expected["value"], key
    assert adopted.secret("system_config", "value", "", "jwt_secret") == EXPECTED["jwt"]["effective_secret"]


def test_the_problems_are_those_that_are_expected(adopted: Adopted) -> None:
    def identity(severity: str, code: str, table: str, key: object) -> tuple[str, ...]:
        return severity, code, table, json.dumps(key)

    found = sorted(identity(p.severity, p.code, p.table, p.key) for p in adopted.report.problems)
    expected = sorted(identity(p["severity"], p["code"], p["table"], p["key"]) for p in DATABASE["problems"])
    assert found == expected
    in_clear = {problem.detail for problem in adopted.problems("secret_in_clear")}
    assert in_clear == {p["detail"] for p in DATABASE["problems"] if p["code"] == "secret_in_clear"}


def test_the_report_counts_every_row_and_secret(adopted: Adopted) -> None:
    report = adopted.report
    assert {name: counts.read for name, counts in report.tables.items()} == DATABASE["counts"]
    assert all(counts.adopted == counts.read and not counts.set_aside for counts in report.tables.values())
    for table in ("ai_models", "exchanges"):
        for column in DATABASE["rows"][table][0]["_stored_as"]:
            stored = [row["_stored_as"][column] for row in DATABASE["rows"][table]]
            counts = report.secrets[f"{table}.{column}"]
            assert (counts.encrypted, counts.clear) == (stored.count("encrypted"), stored.count("plaintext"))
            assert counts.empty == stored.count("empty") + stored.count("null")


def test_the_report_is_a_json_document(adopted: Adopted) -> None:
    document = json.loads(json.dumps(adopted.report.as_json()))
    assert document["format"] == 1
    assert document["outcome"] == "adopted"
    assert document["tables"]["traders"] == {"read": 4, "adopted": 4, "set_aside": 0}


def test_urls_show_no_credentials(adopted: Adopted) -> None:
    [row] = adopted.rows("SELECT coin_pool_url FROM user_signal_sources WHERE id = 2")
    assert row["coin_pool_url"].endswith(":http://signals.example.com/api/ai500")


def test_the_store_starts_at_revision_1_without_changes_to_tell(adopted: Adopted) -> None:
    [state] = adopted.rows("SELECT revision, compacted_revision FROM store_state")
    assert state == {"revision": 1, "compacted_revision": 1}
    assert adopted.rows("SELECT * FROM change_log") == []


def test_nofx_key_stays_for_opening_only(adopted: Adopted) -> None:
    [key] = adopted.rows("SELECT state, algorithm FROM keyring WHERE id = 'nofx-v1'")
    assert key == {"state": "decrypt_only", "algorithm": "nofx-v1"}


def test_the_original_is_untouched(tmp_path: Path) -> None:
    directory = shutil.copytree(SAMPLE, tmp_path / "nofx")
    before = snapshot(directory)
    adopt(directory / "config.db", tmp_path / "data")
    assert snapshot(directory) == before


def test_files_with_clear_secrets_are_named(tmp_path: Path) -> None:
    directory = shutil.copytree(SAMPLE, tmp_path / "nofx")
    report = adopt(directory / "config.db", tmp_path / "data").report
    named = {Path(file.path).name: file.why for file in report.files_with_clear_secrets}
    assert set(named) == {"config.db", "config.json", "env"}
    assert named["env"] == "DATA_ENCRYPTION_KEY"


def test_no_secret_is_in_any_byte_of_what_adoption_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    adopted = adopt(Path(shutil.copy(SAMPLE / "config.db", tmp_path / "config.db")), tmp_path / "data")
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    printed = "".join(capfd.readouterr()) + json.dumps(adopted.report.as_json())
    secrets = clear_secrets()
    assert len(secrets) > 15
    for secret in secrets:
        assert secret.encode() not in written, secret
        assert secret not in printed, secret
    assert b"ENC:v1:" not in written


def clear_secrets() -> list[str]:
    """Every secret of the sample; of URLs the part that is secret."""
    found = ["auth=demo", EXPECTED["jwt"]["effective_secret"], EXPECTED["key"]["env_value"]]
    for table, columns in SECRETS.items():
        for row in DATABASE["rows"][table]:
            found += [row[name] for name in columns if row[name] and not name.endswith("_url")]
    return found
