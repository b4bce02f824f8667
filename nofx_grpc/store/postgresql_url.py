"""From a database URL to libpq's parameters: several hosts, and TLS that is verified unless the URL says otherwise."""

import ipaddress
import os
import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

SCHEMES = ("postgresql+psycopg", "postgresql")
EXPECTED = "postgresql+psycopg://user:password@host:port/database"
_DEFAULTS = {
    "application_name": "nofx-grpc",
    "connect_timeout": "5",
    # A peer that is gone without a word is noticed before callers have given up.
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_UNKNOWN = re.compile(r'invalid URI query parameter: "(\w+)"')


def parameters_of(url: str) -> dict[str, str]:
    """libpq's parameters for a URL as libpq takes it, or as SQLAlchemy does (`?host=one:5432&host=two:5432`).

    Raises ValueError, which says what is expected and shows nothing of the URL's credentials.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in SCHEMES or not separator:
        raise ValueError(EXPECTED)
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(_for_libpq(rest)).items()}
    except ProgrammingError as error:
        unknown = _UNKNOWN.search(str(error))
        raise ValueError(
            f"{EXPECTED}, without {unknown[1]!r}, which libpq does not know" if unknown else EXPECTED
        ) from None
    if not all(port.isdecimal() for port in parameters.get("port", "").split(",") if port):
        raise ValueError(f"{EXPECTED}: a port is a number")
    if "dbname" not in parameters:
        raise ValueError(f"{EXPECTED}: the database is not named")
    hosts = _hosts(parameters)
    if len(hosts) > 1:
        parameters.setdefault("target_session_attrs", "read-write")
    if not all(map(is_local, hosts)):
        parameters.setdefault("sslmode", "verify-full")
    return _DEFAULTS | parameters


def is_local(host: str) -> bool:
    """Whether what is sent to a host stays on this machine: a socket's directory (or none), or a loopback address."""
    if host in {"", "localhost"} or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(parameters: dict[str, str]) -> str:
    """The database as a person would name it, without credentials."""
    ports = parameters.get("port", "").split(",")
    hosts = parameters.get("host", parameters.get("hostaddr", "")).split(",")
    places = [f"{host}:{port}" if port else host for host, port in zip(hosts, ports * len(hosts), strict=False)]
    return f"postgresql://{','.join(places)}/{parameters['dbname']}"


def _hosts(parameters: dict[str, str]) -> list[str]:
    named = (
        parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST")
    )
    return (named or "").split(",")


def _for_libpq(rest: str) -> str:
    """The URL as libpq takes it.  Raises ValueError for a parameter that is given twice."""
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        raise ValueError(EXPECTED) from None
    query = parse_qsl(parts.query, keep_blank_values=True)
    hosts = [value for name, value in query if name == "host"]
    others = {name: value for name, value in query if name != "host"}
    if len(query) != len(hosts) + len(others):
        raise ValueError(f"{EXPECTED}, each parameter once")
    if len(hosts) > 1 or (hosts and ":" in hosts[0] and not hosts[0].startswith("/")):
        split = [_host_and_port(host) for host in hosts]
        others["host"], others["port"] = (",".join(part) for part in zip(*split, strict=True))
    elif hosts:
        others["host"] = hosts[0]
    return f"postgresql://{parts.netloc}{parts.path}?{urlencode(others, quote_via=quote)}"


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = text.partition(":")
    return host, port
