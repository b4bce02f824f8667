"""`nofx-grpc health`: the exit code for whoever watches, and how little it costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from nofx_grpc.cli.health import settings_of
from nofx_grpc.errors import SettingsError
from nofx_grpc.settings import Settings
from tests.support.processes import environment, run, serving


@pytest.mark.e2e
def test_a_server_that_serves(tmp_path: Path) -> None:
    with serving(environment(tmp_path / "data"), tmp_path / "log") as server:
        healthy = run("health", "--address", server.address, env=server.env)
        assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "SERVING\n", "")
        config = tmp_path / "settings.toml"
        config.write_text(f'listen = "{server.address}"\n')
        env = {name: value for name, value in server.env.items() if name != "NOFX_GRPC_LISTEN"}
        assert run("health", "--config", str(config), env=env).returncode == 0


@pytest.mark.e2e
def test_nobody_there(tmp_path: Path) -> None:
    refused = run("health", "--timeout", "1", env=environment(tmp_path, listen=f"unix:{tmp_path}/s"))
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith(f"unix:{tmp_path}/s does not answer: UNAVAILABLE: ")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--address", "nowhere"], 3, "nofx-grpc: the address 'nowhere' is not one: expected host:port or unix:path\n"),
        (["--address", "[::]:0"], 3, "nofx-grpc: the port of [::]:0 is chosen by the server: give --address"),
        (["--cacert", "/nonexistent"], 3, "nofx-grpc: the certificate /nonexistent cannot be read: "),
        (["--config", "/nonexistent"], 3, "nofx-grpc: the configuration file /nonexistent cannot be read: "),
        (["--verbose"], 2, "usage: nofx-grpc health "),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, arguments: list[str], code: int, text: str) -> None:
    refused = run("health", *arguments, env=environment(tmp_path, listen="127.0.0.1:1"))
    assert refused.returncode == code and refused.stderr.startswith(text)


@pytest.mark.e2e
def test_a_server_with_another_certificate_is_not_it(tmp_path: Path) -> None:
    settings = {}
    for name in ("server", "other"):
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        settings[name] = {"tls_cert": str(tmp_path / f"{name}.pem"), "tls_key": str(tmp_path / f"{name}.key")}
    with serving(environment(tmp_path / "data", **settings["server"]), tmp_path / "log") as server:
        assert run("health", "--address", server.address, env=server.env).returncode == 0
        other = environment(tmp_path / "data", **settings["other"])
        assert run("health", "--address", server.address, env=other).returncode == 1


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["health", "--address", "127.0.0.1:1"]])
def test_what_is_asked_often_imports_little(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom nofx_grpc.cli.main import main\n"
        f"code = main({arguments})\n"
        "dear = {'pydantic', 'sqlalchemy', 'alembic', 'structlog', 'protovalidate'}\n"
        "sys.exit(', '.join(sorted(dear & sys.modules.keys())) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("env", [{}, {"NOFX_GRPC_LISTEN": ""}, {"NOFX_GRPC_LISTEN": "[::1]:4000"}])
@pytest.mark.parametrize("in_file", ["", 'listen = "127.0.0.1:3000"'])
def test_health_looks_where_the_server_listens(tmp_path: Path, env: dict[str, str], in_file: str) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(in_file)
    settings = Settings.load(config, env)
    assert settings_of(config, env) == (settings.listen, "")


def test_health_knows_the_servers_certificate(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('tls_cert = "in-file.pem"')
    assert settings_of(config, {})[1] == "in-file.pem"
    assert settings_of(config, {"NOFX_GRPC_TLS_CERT": "in-env.pem"})[1] == "in-env.pem"


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("listen: 127.0.0.1")
    with pytest.raises(SettingsError, match=r"settings\.toml cannot be read"):
        settings_of(config, {})
