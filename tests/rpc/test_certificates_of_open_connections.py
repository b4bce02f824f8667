"""Whoever is connected already is asked for its rights again: by the policy, the authorities and the time of now."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from nofx_grpc.errors import Unauthenticated
from nofx_grpc.rpc.certificates import ClientCertificates, vouched_for_until
from nofx_grpc.rpc.credentials import PeerCertificate
from nofx_grpc.rpc.policy import parse_policy
from nofx_grpc.rpc.tls import TlsMaterial
from tests.support.certificates import HOUR, ROLES_BY_NAME, Authority, MutualTls, grant, replace_file, spiffe
from tests.support.service import Client, RunningService, refused, running_service
from tests.support.watching import Watching, create_exchange, ended, named

Code = grpc.StatusCode


class Clock:
    """The time, some of it ahead."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def moved() -> Clock:
    return Clock()


@pytest.fixture
def mtls(tmp_path: Path) -> MutualTls:
    return MutualTls.made_in(tmp_path)


@pytest.fixture
async def service(tmp_path: Path, mtls: MutualTls, moved: Clock) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "data", clock=moved, env=mtls.settings) as running:
        yield running


def client_of(service: RunningService, mtls: MutualTls, path: str) -> Client:
    return service.client_by_tls(mtls.channel_credentials(mtls.authority.workload(path)))


async def watch(client: Client) -> Watching:
    watching = Watching(client)
    await watching.synced()
    return watching


def reload(service: RunningService) -> None:
    """Look at the files twice, as a server does once a second."""
    for files in [*service.app.files] * 2:
        files.look()


async def test_a_changed_policy(service: RunningService, mtls: MutualTls) -> None:
    viewer, engine, gateway, admin = [
        await watch(client_of(service, mtls, path)) for path in ("viewer", "engine", "gateway", "admin")
    ]
    fewer = [grant(spiffe("viewer"), "viewer"), grant(spiffe("gateway"), "gateway", user_id="ada")]
    mtls.write_policy("".join(fewer) + grant(spiffe("admin"), "viewer"))
    reload(service)
    assert "gives it no rights here" in (await ended(engine.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")).text
    await ended(gateway.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    denied = await service.rows("SELECT principal FROM audit_log WHERE outcome = 'DENIED' ORDER BY principal")
    assert denied == [(spiffe("engine"),), (spiffe("gateway"),)]
    by_token = service.client_by_tls(mtls.channel_credentials(None), service.token("admin"), service.address)
    await create_exchange(by_token, "okx")
    assert [named(await one.changes()) for one in (viewer, admin)] == [["CREATE default/okx"]] * 2
    demoted = client_of(service, mtls, "admin")
    await refused(create_exchange(demoted, "gate"), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_certificate_that_expires(service: RunningService, mtls: MutualTls, moved: Clock) -> None:
    client = client_of(service, mtls, "admin")
    watching = await watch(client)
    moved.ahead = timedelta(hours=1)
    refusal = await ended(watching.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "the certificate has expired"
    await refused(create_exchange(client, "okx"), Code.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_an_authority_that_is_taken_away(service: RunningService, mtls: MutualTls) -> None:
    other = Authority("another")
    replace_file(mtls.directory / "ca.pem", mtls.authority.pem + other.pem)
    reload(service)
    stays = await watch(service.client_by_tls(mtls.channel_credentials(other.workload("viewer"))))
    client = client_of(service, mtls, "viewer")
    goes = await watch(client)
    replace_file(mtls.directory / "ca.pem", other.pem)
    reload(service)
    refusal = await ended(goes.call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert refusal.text == "nobody vouches for the certificate any more"
    by_token = service.client_by_tls(mtls.channel_credentials(None), service.token("admin"), service.address)
    await create_exchange(by_token, "okx")
    assert named(await stays.changes()) == ["CREATE default/okx"]


def test_a_chain_is_followed_to_an_authority_of_now() -> None:
    root, other = Authority("root"), Authority("other")
    between = Authority("between", parent=root)
    leaf = between.workload("x").certificate
    signer, authority = between.pair.certificate, root.pair.certificate
    assert vouched_for_until([leaf, signer], (other.pair.certificate, authority))
    assert vouched_for_until([leaf], (signer,))
    assert vouched_for_until([leaf, other.pair.certificate, signer], (authority,))
    assert not vouched_for_until([leaf], (authority,))
    assert not vouched_for_until([leaf, signer], (other.pair.certificate,))
    assert not vouched_for_until([leaf, signer], ())
    # Bystanders that the authority has signed vouch for nobody.
    bystander = Authority("between", parent=other).pair.certificate
    assert not vouched_for_until([leaf, bystander], (other.pair.certificate,))


def test_an_authority_that_is_taken_away_at_the_moment_of_the_check() -> None:
    """Files are loaded in a thread, which puts new material in the place of the old between any two steps."""
    old, new = Authority("old"), Authority("new")
    shown = PeerCertificate(old.workload("viewer").pem, b"", spiffe("viewer"))

    class Files:
        """Material of which the old authority is gone after some reads."""

        def __init__(self, reads: int) -> None:
            self.reads = reads

        @property
        def value(self) -> TlsMaterial:
            self.reads -= 1
            return materials[self.reads < 0]

    materials = [TlsMaterial(b"", b"", b"", (authority.pair.certificate,)) for authority in (old, new)]
    policy: Any = SimpleNamespace(value=parse_policy(ROLES_BY_NAME, "policy.toml"))
    for reads in range(1, 5):
        files: Any = Files(reads)
        certificates = ClientCertificates(files, policy, lambda: datetime.now(UTC))
        while files.reads > 0:
            assert certificates.identify(shown).role == "viewer"
        with pytest.raises(Unauthenticated, match="nobody vouches"):
            certificates.identify(shown)


def test_who_is_no_authority_vouches_for_nobody() -> None:
    root = Authority("root")
    rogue = Authority("rogue", parent=root)
    rogue.pair = root.issue(common_name="rogue")
    forged = rogue.workload("admin").certificate
    assert not vouched_for_until([forged, rogue.pair.certificate], (root.pair.certificate,))


def test_a_chain_ends_with_the_first_of_it() -> None:
    """Whoever is connected when an authority expires is refused from then on, as who comes then is by TLS."""
    root, between = Authority("root"), Authority("between")
    between.pair = root.issue(common_name="between", authority=True, lifetime=HOUR / 2)
    leaf, signer, authority = between.workload("x").certificate, between.pair.certificate, root.pair.certificate
    assert vouched_for_until([leaf, signer], (authority,)) == signer.not_valid_after_utc < leaf.not_valid_after_utc
    # The same one renewed, beside the old one: what lasts longer counts.
    later = signer.not_valid_after_utc + HOUR / 4
    renewed = renew(signer, root, later)
    assert vouched_for_until([leaf, signer, renewed], (authority,)) == later
    assert vouched_for_until([leaf], (signer, renewed)) == later


def test_of_two_that_have_signed_the_same_one_may_lead_nowhere() -> None:
    """A cross-signed authority, in whatever order the client sends it, and with whatever else."""
    root, other, between = Authority("root"), Authority("other"), Authority("between")
    between.pair = root.issue(common_name="between", authority=True, lifetime=HOUR / 2)
    leaf, signer, authority = between.workload("x").certificate, between.pair.certificate, root.pair.certificate
    crossed = renew(signer, other, signer.not_valid_after_utc + HOUR / 4)
    for signers in ([signer, crossed], [crossed, signer], [crossed, signer, authority, other.pair.certificate]):
        assert vouched_for_until([leaf, *signers], (authority,)) == signer.not_valid_after_utc
    assert vouched_for_until([leaf, crossed, other.pair.certificate], (authority,)) is None


def renew(certificate: x509.Certificate, by: Authority, until: datetime) -> x509.Certificate:
    """The same name and key for longer."""
    builder = x509.CertificateBuilder(
        by.pair.certificate.subject, certificate.subject, certificate.public_key(), x509.random_serial_number()
    )
    builder = builder.not_valid_before(certificate.not_valid_before_utc).not_valid_after(until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(by.pair.private, SHA256())


async def test_what_is_broken_leaves_what_was_there(service: RunningService, mtls: MutualTls) -> None:
    client = client_of(service, mtls, "viewer")
    watching = await watch(client)
    broken: dict[str, str | bytes] = {
        "policy.toml": ROLES_BY_NAME + '[[grant]]\nspiffe_id = "x"\n',
        "ca.pem": mtls.authority.pem[:100],
        "server.pem": Authority().server().pem,
        "server.key": "",
    }
    for name, content in broken.items():
        replace_file(mtls.directory / name, content)
        reload(service)
        await create_exchange(client_of(service, mtls, "admin"), name.replace(".", "-"))
        assert len(await changes_of(watching)) == 1
    for path in ("ca.pem", "policy.toml"):
        (mtls.directory / path).unlink()
        reload(service)
    await create_exchange(client_of(service, mtls, "admin"), "okx")


async def changes_of(watching: Watching) -> list[str]:
    return named(await watching.changes())


async def test_who_is_still_writing_is_left_to_finish(service: RunningService, mtls: MutualTls) -> None:
    policy = mtls.directory / "policy.toml"
    with policy.open("w") as file:
        file.write(grant(spiffe("viewer"), "viewer"))
        file.flush()
        for files in service.app.files:
            files.look()
        await create_exchange(client_of(service, mtls, "admin"), "okx")
        file.write(grant(spiffe("admin"), "admin"))
    reload(service)
    await create_exchange(client_of(service, mtls, "admin"), "gate")
