"""Settings: where they come from, what is accepted, and how a problem is put."""

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from nofx_grpc.errors import SettingsError
from nofx_grpc.settings import Settings, variable
from tools.settings_table import README, settings_table, with_table

SECRET = "gAAAA-not-to-be-shown"


def problems(env: dict[str, str], config: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(config, env)
    return caught.value.message.splitlines()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "nofx.toml"


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """The two variables of a certificate and its key, as files."""
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    return {"NOFX_GRPC_TLS_CERT": str(tmp_path / "cert.pem"), "NOFX_GRPC_TLS_KEY": str(tmp_path / "key.pem")}


def test_the_defaults() -> None:
    settings = Settings.load(None, {})
    assert settings.listen == "127.0.0.1:50051"
    assert settings.database_url.get_secret_value() == "sqlite:///data/nofx.db"
    assert settings.master_key_file == Path("data/master.key")
    assert settings.data_encryption_key is None
    assert (settings.tls_cert, settings.tls_key, settings.mtls_listen) == (None, None, None)


def test_what_lies_in_the_data_directory_follows_it() -> None:
    settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": "/var/lib/nofx"})
    assert settings.database_url.get_secret_value() == "sqlite:////var/lib/nofx/nofx.db"
    assert settings.master_key_file == Path("/var/lib/nofx/master.key")


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(config: Path) -> None:
    config.write_text('batch_size = 7\nlog_level = "debug"\n')
    settings = Settings.load(config, {"NOFX_GRPC_BATCH_SIZE": "9"})
    assert (settings.batch_size, settings.log_level, settings.login_floor_ms) == (9, "debug", 500)


def test_an_empty_variable_counts_as_not_set(config: Path) -> None:
    config.write_text("batch_size = 7\n")
    assert Settings.load(config, {"NOFX_GRPC_BATCH_SIZE": "", "DATA_ENCRYPTION_KEY": ""}).batch_size == 7


def test_words_may_be_written_in_capitals() -> None:
    settings = Settings.load(None, {"NOFX_GRPC_LOG_LEVEL": "DEBUG", "NOFX_GRPC_LOG_FORMAT": "JSON"})
    assert (settings.log_level, settings.log_format) == ("debug", "json")


def test_the_key_of_nofx_keeps_its_name() -> None:
    key = Settings.load(None, {"DATA_ENCRYPTION_KEY": SECRET}).data_encryption_key
    assert key is not None
    assert key.get_secret_value() == SECRET


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.load(None, {"NOFX_GRPC_SERVICE_HOST": "10.0.0.1", "HOME": "/"}) == Settings.load(None, {})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LISTEN", "abc", "host:port or unix:path"),
        ("MAX_REQUEST_BYTES", "4MB", "a whole number from 1024 to 67108864"),
        ("MAX_PAGE_BYTES", "0", "a whole number from 1024 to 67108864"),
        ("BATCH_SIZE", "1.5", "a whole number from 1 to 10000"),
        ("BATCH_MILLISECONDS", "nan", "a number from 0 to 1000"),
        ("SHUTDOWN_GRACE_SECONDS", "-1", "a number from 0 to 600"),
        ("PASSWORD_HASH_CONCURRENCY", "0", "a whole number from 1 to 64"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("LOG_FORMAT", "xml", "json or console"),
        ("TLS_CERT", "/does/not/exist", "a file that can be read (No such file or directory)"),
    ],
)
def test_a_problem_names_the_variable_the_value_and_what_is_expected(name: str, value: str, expected: str) -> None:
    assert problems({f"NOFX_GRPC_{name}": value}) == [f"NOFX_GRPC_{name} has value {value!r}: expected {expected}"]


@pytest.mark.parametrize("url", ["nofx.db", "sqlite:///", "sqlite:///:memory:", "mysql://root:hunter2@db/nofx"])
def test_a_database_url_may_hold_a_password_and_is_not_shown(url: str) -> None:
    assert problems({"NOFX_GRPC_DATABASE_URL": url}) == [
        "NOFX_GRPC_DATABASE_URL has a value that is not shown: expected sqlite:///path, or postgresql+psycopg://user:password@host:port/database"
    ]


def test_all_problems_are_reported_at_once(config: Path) -> None:
    config.write_text("listn = 1\nbatch_size = 0\ndata_dir = 5\n")
    assert problems({"NOFX_GRPC_LISTEN": "abc", "NOFX_GRPC_LOG_LEVEL": "loud"}, config) == [
        f"{config}: there is no setting 'listn'; the nearest is 'listen'",
        f"{config}: data_dir has value '5': expected a text in quotes",
        "NOFX_GRPC_LISTEN has value 'abc': expected host:port or unix:path",
        f"{config}: batch_size has value '0': expected a whole number from 1 to 10000",
        "NOFX_GRPC_LOG_LEVEL has value 'loud': expected debug, info, warning or error",
    ]


def test_a_value_of_the_environment_is_blamed_on_the_environment(config: Path) -> None:
    config.write_text("batch_size = 7\n")
    assert problems({"NOFX_GRPC_BATCH_SIZE": "0"}, config) == [
        "NOFX_GRPC_BATCH_SIZE has value '0': expected a whole number from 1 to 10000"
    ]


def test_a_secret_in_the_file_is_not_shown(config: Path) -> None:
    config.write_text("data_encryption_key = 123456789\n")
    assert problems({}, config) == [
        f"{config}: data_encryption_key has a value that is not shown: expected a text in quotes"
    ]


def test_a_problem_keeps_no_value_of_a_secret_in_its_traceback(config: Path) -> None:
    config.write_text(f'data_encryption_key = ["{SECRET}"]\n')
    with pytest.raises(SettingsError) as caught:
        Settings.load(config, {})
    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)


def test_settings_do_not_show_their_secrets() -> None:
    settings = Settings.load(None, {"DATA_ENCRYPTION_KEY": SECRET, "NOFX_GRPC_DATABASE_URL": f"sqlite:///{SECRET}"})
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_a_missing_file_and_one_that_is_not_toml_are_named(config: Path) -> None:
    assert problems({}, config) == [f"the configuration file {config} cannot be read: No such file or directory"]
    config.write_text("listen: abc\n")
    assert problems({}, config)[0].startswith(f"the configuration file {config} is not TOML: ")
    config.write_bytes(b"\xff")
    assert problems({}, config)[0].startswith(f"the configuration file {config} is not TOML: ")


def test_tls_takes_both_files(tls: dict[str, str]) -> None:
    settings = Settings.load(None, tls)
    assert [str(settings.tls_cert), str(settings.tls_key)] == list(tls.values())


def test_one_of_the_tls_files_is_not_enough(tls: dict[str, str]) -> None:
    cert, key = tls.items()
    wanted = "the private key, not encrypted, of the certificate in NOFX_GRPC_TLS_CERT"
    assert problems(dict([cert])) == [f"NOFX_GRPC_TLS_KEY is not set: expected {wanted}"]
    assert problems(dict([key])) == [
        f"NOFX_GRPC_TLS_KEY has value {key[1]!r}: expected NOFX_GRPC_TLS_CERT to be set too"
    ]


def test_a_key_of_another_certificate_is_refused(tls: dict[str, str], tmp_path: Path) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    assert "of the certificate in NOFX_GRPC_TLS_CERT" in problems(tls)[0]


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tls: dict[str, str], tmp_path: Path) -> None:
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "key.pem").write_bytes(sealed)
    assert "not encrypted" in problems(tls)[0]


def test_a_certificate_file_without_a_certificate_is_refused(tls: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    assert problems(tls | {"NOFX_GRPC_LISTEN": "0.0.0.0:50051"}) == [
        f"NOFX_GRPC_TLS_CERT has value {tls['NOFX_GRPC_TLS_CERT']!r}: expected a PEM file with a certificate"
    ]


def test_plaintext_beyond_loopback_is_refused() -> None:
    (problem,) = problems({"NOFX_GRPC_LISTEN": "0.0.0.0:50051"})
    assert problem.startswith("NOFX_GRPC_LISTEN has value '0.0.0.0:50051': expected a loopback address or unix:path")
    assert problem.endswith("set NOFX_GRPC_TLS_CERT and NOFX_GRPC_TLS_KEY to serve others")


def test_tls_may_be_served_beyond_loopback(tls: dict[str, str]) -> None:
    assert Settings.load(None, tls | {"NOFX_GRPC_LISTEN": "[::]:443"}).listen == "[::]:443"


def test_every_setting_is_described() -> None:
    rows = {row.name: row for row in Settings.describe()}
    assert list(rows) == [variable(name) for name in Settings.model_fields]
    assert all(row.meaning.endswith(".") for row in rows.values())
    assert rows["NOFX_GRPC_DATABASE_URL"].default == "sqlite:///<data dir>/nofx.db"
    assert rows["NOFX_GRPC_SHUTDOWN_GRACE_SECONDS"].default == "10"


def test_the_readme_shows_the_settings() -> None:
    readme = README.read_text(encoding="utf-8")
    assert settings_table() in readme
    assert with_table(readme) == readme
