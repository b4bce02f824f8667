"""The policy file: what is a grant, and what is said of one that is none, by file and line."""

from pathlib import Path

import pytest

from nofx_grpc.errors import SettingsError
from nofx_grpc.rpc.policy import Policy, is_spiffe_id, load_policy, parse_policy
from nofx_grpc.settings import Settings
from tests.support.certificates import MutualTls, grant, spiffe

ENGINE = grant(spiffe("engine"), "engine")
ID = (
    "spiffe://trust-domain/path to the letter, or with /* at its end all ids below; "
    "the trust domain in lower case, segments of a-z, A-Z, 0-9, '.', '_' and '-'"
)


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_policy(text, "policy.toml")
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["policy.toml: there is no [[grant]] in it"]),
        ("# nothing\n", ["policy.toml: there is no [[grant]] in it"]),
        (f"{ENGINE}[[grants]]\n", ["policy.toml:4: there is no 'grants'; the nearest is 'grant'"]),
        (f"\nversion = 1\n{ENGINE}", ["policy.toml:2: there is no 'version'; the nearest is 'grant'"]),
        ("grant = []\n", ["policy.toml: there is no [[grant]] in it"]),
        (
            'grant = [{spiffe_id = "spiffe://a/b", role = "engine"}]\n',
            ["policy.toml: write each grant as a table of its own, under a line [[grant]]"],
        ),
        (
            '[grant]\nspiffe_id = "spiffe://a/b"\nrole = "engine"\n',
            ["policy.toml: write each grant as a table of its own, under a line [[grant]]"],
        ),
        (
            f'{ENGINE}\n[[grant]]\nrole = "engine"\n',
            ["policy.toml:5: a grant needs one of spiffe_id and common_name"],
        ),
        (
            f'{ENGINE}common_name = "x"\n',
            ["policy.toml:1: a grant needs one of spiffe_id and common_name"],
        ),
        (
            f'[[grant]]\nspiffe_id = "{spiffe("x")}"\n',
            ["policy.toml:1: a grant needs a role: admin, gateway, engine or viewer"],
        ),
        (
            grant(spiffe("x"), "boss"),
            ["policy.toml:3: role has value 'boss': expected admin, gateway, engine or viewer"],
        ),
        (grant("spiffe://A/b", "admin"), [f"policy.toml:2: spiffe_id has value 'spiffe://A/b': expected {ID}"]),
        (grant("spiffe://a/b*", "admin"), [f"policy.toml:2: spiffe_id has value 'spiffe://a/b*': expected {ID}"]),
        (grant("spiffe://*", "admin"), [f"policy.toml:2: spiffe_id has value 'spiffe://*': expected {ID}"]),
        (
            '[[grant]]\nspiffe_id = 7\nrole = "admin"\n',
            [f"policy.toml:2: spiffe_id has value 7: expected {ID}"],
        ),
        (
            '[[grant]]\ncommon_name = "*"\nrole = "admin"\n',
            ["policy.toml:2: common_name has value '*': expected 1 to 64 of a-z, A-Z, 0-9, '.', '_', '-' and blanks"],
        ),
        (
            f"{ENGINE}reveal = true\nreveal_system = true\n",
            [
                "policy.toml:4: reveal is for the role admin only: what other roles may read is fixed",
                "policy.toml:5: reveal_system is for the role admin only: what other roles may read is fixed",
            ],
        ),
        (
            f'{grant(spiffe("x"), "admin")}reveal = "yes"\n',
            ["policy.toml:4: reveal has value 'yes': expected true or false"],
        ),
        (
            f'{ENGINE}user_id = ""\n',
            ["policy.toml:4: user_id has value '': expected the id of a user; leave it out for all users"],
        ),
        (
            f'{ENGINE}user = "ada"\n',
            ["policy.toml:4: there is no 'user'; the nearest is 'user_id'"],
        ),
        (
            f"{ENGINE}\n\n{ENGINE}",
            [f"policy.toml:6: a second grant for {spiffe('engine')}: the first one is in line 1"],
        ),
    ],
)
def test_what_is_no_policy(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_every_problem_is_told_at_once_in_its_own_grant() -> None:
    text = f"{grant('x', 'engine')}{ENGINE}{grant(spiffe('y'), 'y')}"
    assert [problem.split(" has")[0] for problem in problems(text)] == [
        "policy.toml:2: spiffe_id",
        "policy.toml:9: role",
    ]


def test_what_is_not_toml(tmp_path: Path) -> None:
    assert problems(f"{ENGINE}role\n")[0].startswith("the policy file policy.toml is not TOML: ")
    assert "(at line 4, column 5)" in problems(f"{ENGINE}role\n")[0]
    path = tmp_path / "policy.toml"
    with pytest.raises(SettingsError, match=r"the policy file .*policy.toml cannot be read: No such file"):
        load_policy(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not TOML: it is not UTF-8"):
        load_policy(path)


def granted(policy: Policy, name: str) -> str | None:
    found = policy.grant_of(name)
    return None if found is None else f"{found.principal} {found.role} {found.user_id}".strip()


def test_what_a_grant_gives() -> None:
    policy = parse_policy(
        f"{ENGINE}{grant(spiffe('a/*'), 'viewer')}{grant(spiffe('a/b/*'), 'gateway', user_id='ada')}"
        '[[ grant ]]  # spaces do no harm\ncommon_name = "x y"\nrole = "admin"\n',
        "",
    )
    assert granted(policy, spiffe("engine")) == f"{spiffe('engine')} engine"
    assert granted(policy, spiffe("a/x")) == f"{spiffe('a/x')} viewer"
    assert granted(policy, spiffe("a/b/c")) == f"{spiffe('a/b/c')} gateway ada"
    assert granted(policy, spiffe("a/b")) == f"{spiffe('a/b')} viewer"
    assert granted(policy, "cn:x y") == "cn:x y admin"
    nothing = [spiffe("a"), spiffe("ab/x"), spiffe("a/*"), spiffe("a/"), "cn:engine", "cn:", "x y", ""]
    assert [granted(policy, name) for name in nothing[:1] + nothing[4:]] == [None] * 5


def test_a_prefix_may_be_a_whole_trust_domain() -> None:
    policy = parse_policy(grant("spiffe://nofx.test/*", "viewer"), "")
    assert granted(policy, "spiffe://nofx.test/x") and not granted(policy, "spiffe://nofx.test.example/x")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("spiffe://a/b", True),
        ("spiffe://a.b-c_d/E.f-g_h/1/..x/...", True),
        ("spiffe://a", False),
        ("spiffe://a/", False),
        ("spiffe:///a", False),
        ("spiffe://a/.", False),
        ("spiffe://a/..", False),
        ("spiffe://a/../b", False),
        ("spiffe://a/b\n", False),
        ("spiffe://a/é", False),
        ("spiffe://a:1/b", False),
        ("spiffe://" + "a" * 256 + "/b", False),
        ("spiffe://a/" + "b" * 2038, False),
        ("spiffe://a/" + "b" * 2037, True),
    ],
)
def test_what_is_a_spiffe_id(text: str, good: bool) -> None:
    assert is_spiffe_id(text) is good


# ---- the settings that go with it


def test_the_listener_needs_all_of_it(tmp_path: Path) -> None:
    settings = MutualTls.made_in(tmp_path).settings
    assert Settings.load(None, settings).mtls_listen == "127.0.0.1:0"
    listen = "NOFX_GRPC_MTLS_LISTEN"
    for missing in ("NOFX_GRPC_MTLS_CLIENT_CA", "NOFX_GRPC_MTLS_POLICY"):
        told = problem_of({name: value for name, value in settings.items() if name != missing})
        assert told == f"{listen} has value '127.0.0.1:0': expected {missing} to be set too"
    without_tls = {name: value for name, value in settings.items() if "TLS_CERT" not in name and "TLS_KEY" not in name}
    assert problem_of(without_tls).endswith("expected NOFX_GRPC_TLS_CERT to be set too")
    without_listener = {name: value for name, value in settings.items() if name != listen}
    assert problem_of(without_listener) == (
        f"{listen} is not set: expected an address, because NOFX_GRPC_MTLS_CLIENT_CA is for the listener there"
    )
    same = dict(settings) | {listen: "127.0.0.1:7", "NOFX_GRPC_LISTEN": "127.0.0.1:7"}
    assert problem_of(same).endswith("expected another address than NOFX_GRPC_LISTEN")
    (tmp_path / "ca.pem").write_text("nothing")
    assert problem_of(settings).endswith("ca.pem': expected a PEM file with a certificate")


def problem_of(env: object) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, env)  # type: ignore[arg-type]  # mappings of any kind
    return caught.value.message
