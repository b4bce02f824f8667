"""`nofx-grpc pki init`: what it makes is enough for a server and its callers, and what it prints works as it stands."""

import json
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support import grpcurl
from tests.support.processes import environment, run, serving

pytestmark = pytest.mark.e2e

SPKI = PublicFormat.SubjectPublicKeyInfo
ROLES = ("admin", "gateway", "engine", "viewer")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path / "data")


def made(tmp_path: Path, env: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    return run("pki", "init", str(tmp_path / "a directory" / "pki"), *options, env=env)


def files_of(tmp_path: Path) -> dict[str, Path]:
    return {path.name: path for path in (tmp_path / "a directory" / "pki").iterdir()}


def settings_in(printed: str) -> dict[str, str]:
    """What a shell has of the printed lines."""
    exports = "\n".join(line for line in printed.splitlines() if line.startswith("  export "))
    shown = subprocess.run(f"{exports}\nenv -0", shell=True, env={}, capture_output=True, text=True, check=True)  # noqa: S602  # a shell is what the lines are for
    pairs = (entry.partition("=") for entry in shown.stdout.split("\0"))
    return {name: value for name, _, value in pairs if name.startswith("NOFX_")}


def test_the_printed_lines_work_as_they_stand(tmp_path: Path, env: dict[str, str]) -> None:
    printed = made(tmp_path, env, "--listen", f"127.0.0.1:{free_port()}")
    assert printed.returncode == 0, printed.stderr
    lines = [line.strip() for line in printed.stdout.splitlines() if line.startswith("  grpcurl ")]
    assert len(lines) == len(ROLES)
    with serving(env | settings_in(printed.stdout), tmp_path / "log"):
        for line in lines:
            ran = grpcurl.run_line(line, tmp_path)
            assert ran.returncode == 0, ran.stderr
            assert json.loads(ran.stdout)
        # The line of the admin, by another's certificate.
        ran = grpcurl.run_line(lines[0].replace("/admin.", "/viewer."), tmp_path)
        assert ran.returncode != 0 and "needs the permission ADMIN, which the role 'viewer' does not have" in ran.stderr


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_what_is_made_is_its_owners_only(tmp_path: Path, env: dict[str, str]) -> None:
    assert made(tmp_path, env).returncode == 0
    files = files_of(tmp_path)
    pairs = {f"{name}.{end}" for name in ("ca", "server", *ROLES) for end in ("pem", "key")}
    assert files.keys() == pairs | {"policy.toml"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "a directory" / "pki").stat().st_mode) == 0o700


def test_nothing_is_overwritten(tmp_path: Path, env: dict[str, str]) -> None:
    assert made(tmp_path, env).returncode == 0
    files = files_of(tmp_path)
    for name in sorted(files.keys() - {"engine.key"}):
        files[name].unlink()
    before = files["engine.key"].read_bytes()
    refused = made(tmp_path, env)
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.endswith("a directory/pki has engine.key already: nothing was changed\n")
    assert files_of(tmp_path).keys() == {"engine.key"} and files["engine.key"].read_bytes() == before


def test_the_certificates_are_for_what_they_are_made_for(tmp_path: Path, env: dict[str, str]) -> None:
    options = ("--host", "config.example.org", "--host", "192.0.2.7", "--listen", "0.0.0.0:50052", "--days", "30")
    assert made(tmp_path, env, *options).returncode == 0
    read = {
        name: x509.load_pem_x509_certificate(path.read_bytes())
        for name, path in files_of(tmp_path).items()
        if name.endswith(".pem")
    }
    names = read["server.pem"].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "config.example.org"]
    assert [*map(str, names.get_values_for_type(x509.IPAddress))] == ["127.0.0.1", "::1", "192.0.2.7"]
    for role in ROLES:
        names = read[f"{role}.pem"].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://nofx.local/{role}"]
    for certificate in read.values():
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
        certificate.verify_directly_issued_by(read["ca.pem"])
    assert len({each.public_key().public_bytes(Encoding.PEM, SPKI) for each in read.values()}) == 6


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--listen", "abc"), "--listen has value 'abc': expected host:port or unix:path"),
        (("--listen", "unix:/x"), "--listen has value 'unix:/x': expected host:port"),
        (("--listen", "127.0.0.1:0"), "--listen has value '127.0.0.1:0': expected a port other than 0"),
        (("--host", "a b"), "--host has value 'a b': expected a host name or an IP address"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, env: dict[str, str], options: tuple[str, ...], told: str) -> None:
    refused = made(tmp_path, env, *options)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"nofx-grpc: {told}\n")
    assert not (tmp_path / "a directory").exists()


def test_the_report(tmp_path: Path, env: dict[str, str]) -> None:
    report = json.loads(made(tmp_path, env, "--json").stdout)
    assert report.keys() == {"directory", "expire_time", "settings", "lines"}
    assert report["lines"].keys() == set(ROLES)
    assert report["settings"]["NOFX_GRPC_MTLS_LISTEN"] == "127.0.0.1:50052"
    assert report["settings"] == settings_in(made(tmp_path / "again", env).stdout.replace("/again/", "/"))
