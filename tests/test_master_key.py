"""The master key comes from exactly one place, and whoever is asked for it in vain is told what is wrong."""

import sys
import time
from pathlib import Path

import pytest

from nofx_grpc.errors import MasterKeyError, SettingsError
from nofx_grpc.master_key import from_command, from_file, master_key_text
from nofx_grpc.settings import Settings
from tests.support.processes import environment, run

KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
SECONDS = 30.0


def settings(tmp_path: Path, **env: str) -> Settings:
    return Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(tmp_path)} | env)


def script(tmp_path: Path, text: str) -> str:
    """The command that runs these lines of shell."""
    path = tmp_path / "key.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def refusal(command: str, seconds: float = SECONDS) -> str:
    with pytest.raises(MasterKeyError) as refused:
        from_command(command, seconds)
    return refused.value.message


# ---- one source


def test_the_environment_gives_the_key(tmp_path: Path) -> None:
    assert master_key_text(settings(tmp_path, DATA_ENCRYPTION_KEY=KEY), new=False) == KEY


def test_a_file_gives_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    assert master_key_text(settings(tmp_path, NOFX_GRPC_MASTER_KEY_FILE=str(tmp_path / "key")), new=False) == KEY


def test_a_command_gives_the_key(tmp_path: Path) -> None:
    found = settings(tmp_path, NOFX_GRPC_MASTER_KEY_COMMAND=script(tmp_path, f"echo {KEY}"))
    assert master_key_text(found, new=False) == KEY


@pytest.mark.parametrize(
    "names",
    [
        ("DATA_ENCRYPTION_KEY", "NOFX_GRPC_MASTER_KEY_FILE"),
        ("DATA_ENCRYPTION_KEY", "NOFX_GRPC_MASTER_KEY_COMMAND"),
        ("NOFX_GRPC_MASTER_KEY_FILE", "NOFX_GRPC_MASTER_KEY_COMMAND"),
    ],
)
def test_two_sources_are_refused_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(tmp_path, **dict.fromkeys(names, "quite-secret"))
    assert refused.value.message == (
        f"{names[0]} and {names[1]} are set: the master key is taken from one of them, so set one"
    )


def test_a_source_in_the_file_and_another_in_the_environment_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "nofx.toml"
    config.write_text('master_key_command = "pass nofx"')
    with pytest.raises(SettingsError, match=f"DATA_ENCRYPTION_KEY and {config}: master_key_command are set"):
        Settings.load(config, {"DATA_ENCRYPTION_KEY": KEY})


def test_a_key_file_that_does_not_count_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "master.key").write_text("another")
    assert master_key_text(settings(tmp_path, DATA_ENCRYPTION_KEY=KEY), new=False) == KEY
    assert "master_key_file_not_used" in capsys.readouterr().out


# ---- the file


def test_a_file_open_to_others_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o640)
    assert from_file(path) == KEY
    told = capsys.readouterr().out
    assert "master_key_open_to_others" in told and "0640" in told and KEY not in told
    path.chmod(0o400)
    assert from_file(path) == KEY and capsys.readouterr().out == ""


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(MasterKeyError, match="bytes cannot be read: it is not text"):
        from_file(tmp_path / "bytes")
    with pytest.raises(MasterKeyError, match="cannot be read: Is a directory"):
        from_file(tmp_path)
    assert from_file(tmp_path / "nowhere") is None


# ---- the command


def test_no_shell_looks_at_the_command(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'import sys; print(sys.argv[1])' '$HOME;`id`'"
    assert from_command(command, SECONDS) == "$HOME;`id`"


def test_the_command_reads_nothing_and_has_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example")
    assert from_command(script(tmp_path, 'cat; echo "$VAULT_ADDR"'), SECONDS) == "https://vault.example"


def test_a_command_that_fails_is_told_with_its_code_and_its_words_and_not_with_what_it_printed(tmp_path: Path) -> None:
    text = refusal(script(tmp_path, f"echo {KEY}; echo 'permission denied by vault' >&2; exit 7"))
    assert text.endswith("ended with exit code 7: permission denied by vault") and KEY not in text
    traced = refusal(script(tmp_path, f"set -x; echo {KEY}; echo 'no more' >&2; exit 7"))
    assert "no more" in traced and KEY not in traced
    assert refusal(script(tmp_path, "exit 3")).endswith("exit code 3: it did not say why")
    assert "was killed" in refusal(script(tmp_path, "kill -9 $$"))


def test_that_a_command_that_works_says_something_is_logged_and_not_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_command(script(tmp_path, f"echo token expires soon >&2; echo {KEY}"), SECONDS) == KEY
    told = capsys.readouterr().out
    assert "master_key_command_said" in told and "stderr_bytes=19" in told and "token" not in told and KEY not in told


def test_a_long_complaint_is_cut(tmp_path: Path) -> None:
    assert len(refusal(script(tmp_path, "yes | head -c 100000 >&2; exit 1"))) < 3000


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        ("", "printed 0 lines: expected the key and no more"),
        ("   ", "printed 0 lines"),
        ("{\\n  key\\n}", "printed 3 lines"),
        ("\\377\\376", "printed what is not text"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, printed: str, complaint: str) -> None:
    assert complaint in refusal(script(tmp_path, f"printf '{printed}'"))


def test_a_command_that_does_not_end_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    command = script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; echo {KEY}; wait")
    text = refusal(command, 1.0)
    assert text.endswith("did not end within 1 seconds") and KEY not in text
    child = int((tmp_path / "child").read_text())
    while is_alive(child):
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(f"{tmp_path}/nothing --x").endswith("cannot be run: No such file or directory")
    (tmp_path / "file").touch(mode=0o600)
    assert refusal(f"{tmp_path}/file").endswith("cannot be run: Permission denied")


@pytest.mark.parametrize("command", ["  ", "vault 'read"])
def test_a_command_that_is_none_is_refused_by_its_setting(tmp_path: Path, command: str) -> None:
    with pytest.raises(SettingsError, match=r"NOFX_GRPC_MASTER_KEY_COMMAND has value .*: expected a command"):
        settings(tmp_path, NOFX_GRPC_MASTER_KEY_COMMAND=command)


# ---- the start


@pytest.mark.parametrize("command", ["serve", "migrate"])
@pytest.mark.parametrize("source", ["environment", "file", "command", "passphrase"])
def test_a_start_with_a_key_that_does_not_fit_is_refused(tmp_path: Path, command: str, source: str) -> None:
    data = tmp_path / "data"
    right, wrong = ("right horse", "wrong horse") if source == "passphrase" else (KEY, KEY.lower())
    assert run("migrate", env=environment(data, DATA_ENCRYPTION_KEY=right)).returncode == 0
    (tmp_path / "key").write_text(wrong)
    named = {
        "environment": {"DATA_ENCRYPTION_KEY": wrong},
        "passphrase": {"DATA_ENCRYPTION_KEY": wrong},
        "file": {"NOFX_GRPC_MASTER_KEY_FILE": str(tmp_path / "key")},
        "command": {"NOFX_GRPC_MASTER_KEY_COMMAND": f"cat {tmp_path}/key"},
    }[source]
    before = (data / "nofx.db").read_bytes()
    refused = run(command, env=environment(data, **named))
    assert refused.returncode == 3
    assert "the master key does not open this database's keyring: it was made with another one" in refused.stderr
    assert wrong not in refused.stderr and (data / "nofx.db").read_bytes() == before


def test_a_start_whose_command_fails_is_refused_and_makes_no_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused = run("serve", env=environment(data, NOFX_GRPC_MASTER_KEY_COMMAND=script(tmp_path, "exit 9")))
    assert refused.returncode == 3 and "exit code 9" in refused.stderr
    assert not (data / "master.key").exists() and not (data / "nofx.db").exists()


def test_a_store_is_made_and_opened_with_the_key_of_a_command(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", NOFX_GRPC_MASTER_KEY_COMMAND=script(tmp_path, f"echo {KEY}"))
    for _ in range(2):
        assert run("migrate", env=env).returncode == 0
    assert not (tmp_path / "data/master.key").exists()
    assert run("migrate", env=environment(tmp_path / "data", DATA_ENCRYPTION_KEY=KEY)).returncode == 0
