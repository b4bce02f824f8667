"""From a database URL to libpq's parameters: several hosts, verified TLS, and no password in any text."""

import pytest

from nofx_grpc.errors import SettingsError
from nofx_grpc.store.backend import backend_for
from nofx_grpc.store.postgresql_url import is_local, parameters_of


def some(url: str, *names: str) -> tuple[str | None, ...]:
    parameters = parameters_of(url)
    return tuple(parameters.get(name) for name in names)


def test_a_url_is_taken_apart() -> None:
    url = "postgresql+psycopg://ada:p%40ss@db.example:5433/nofx?application_name=x&sslrootcert=/ca.pem"
    names = ("user", "password", "host", "port", "dbname", "application_name", "sslrootcert")
    assert some(url, *names) == ("ada", "p@ss", "db.example", "5433", "nofx", "x", "/ca.pem")
    assert some("postgresql:///nofx?host=/run/postgresql", "host", "dbname") == ("/run/postgresql", "nofx")


@pytest.mark.parametrize(
    "places",
    [
        "one:5432,two:5433/nofx",
        "/nofx?host=one:5432&host=two:5433",
        "/nofx?host=one,two&port=5432,5433",
    ],
)
def test_of_several_hosts_the_one_that_may_be_written_is_taken(places: str) -> None:
    url = f"postgresql+psycopg://ada@{places}"
    assert some(url, "host", "port", "target_session_attrs") == ("one,two", "5432,5433", "read-write")
    separator = "&" if "?" in places else "?"
    assert some(f"{url}{separator}target_session_attrs=any", "target_session_attrs") == ("any",)


def test_a_host_without_a_port_and_an_ipv6_address() -> None:
    url = "postgresql+psycopg:///nofx?host=one&host=[2001:db8::1]:5433"
    assert some(url, "host", "port") == ("one,2001:db8::1", ",5433")


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.9.9.9", "[::1]", "%2Frun%2Fpostgresql"])
def test_to_this_machine_tls_is_left_to_libpq(host: str) -> None:
    assert some(f"postgresql+psycopg://ada@{host}/nofx", "sslmode") == (None,)


@pytest.mark.parametrize(
    "host", ["db", "10.0.0.7", "[2001:db8::1]", "localhost.example", "localhost,db", "127.0.0.1.x"]
)
def test_to_another_machine_tls_is_verified_unless_the_url_says_otherwise(host: str) -> None:
    assert some(f"postgresql+psycopg://ada@{host}/nofx", "sslmode") == ("verify-full",)
    assert some(f"postgresql+psycopg://ada@{host}/nofx?sslmode=require", "sslmode") == ("require",)


def test_a_host_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    assert some("postgresql+psycopg:///nofx", "sslmode") == ("verify-full",)


def test_a_name_that_is_not_local() -> None:
    assert not is_local("localhost.example.com")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ada:hunter2@db",
        "postgresql+psycopg://ada:hunter2@db:port/nofx",
        "postgresql+psycopg://ada:hunter2@db/nofx?colour=red",
        "postgresql+psycopg://ada:hunter2@db/nofx?sslmode=require&sslmode=disable",
        "postgresql+psycopg://ada:hunter2@[::1/nofx",
        "postgresql+asyncpg://ada:hunter2@db/nofx",
        "postgresql+psycopg:ada:hunter2@db/nofx",
    ],
)
def test_what_is_wrong_is_told_without_the_password(url: str) -> None:
    with pytest.raises(SettingsError, match="NOFX_GRPC_DATABASE_URL") as refused:
        backend_for(url).open_writer()
    assert "expected postgresql+psycopg://" in refused.value.message
    assert "hunter2" not in str(refused.value) and "ada" not in str(refused.value)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(SettingsError, match="'colour', which libpq does not know"):
        backend_for("postgresql+psycopg://db/nofx?colour=red")


def test_the_database_is_named_without_credentials() -> None:
    url = "postgresql+psycopg://ada:hunter2@one:5432,two:5433/nofx?sslpassword=hunter2"
    assert backend_for(url).describe() == "postgresql://one:5432,two:5433/nofx"
    assert backend_for("postgresql+psycopg://ada@one,two/nofx").describe() == "postgresql://one,two/nofx"
    assert backend_for("postgresql+psycopg://ada@one,two:6432/nofx").describe() == "postgresql://one,two:6432/nofx"
    assert backend_for("postgresql+psycopg:///nofx?host=/run/pg").describe() == "postgresql:///run/pg/nofx"
