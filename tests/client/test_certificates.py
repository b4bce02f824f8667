"""Both clients by a certificate of their own, at a real server's listener for those."""

from pathlib import Path

import pytest

from nofx_grpc.client import errors
from tests.client.support import AnyClient, ask, close
from tests.support.certificates import MutualTls
from tests.support.service import running_service


async def test_a_client_gets_in_by_its_certificate(tmp_path: Path, kind: type[AnyClient]) -> None:
    mtls = MutualTls.made_in(tmp_path)
    cert, key = mtls.authority.workload("viewer").write(tmp_path, "viewer")
    async with running_service(tmp_path / "data", env=mtls.settings) as service:
        env = {
            "NOFX_GRPC_ADDRESS": service.app.server.mtls_address,
            "NOFX_GRPC_CA_FILE": str(tmp_path / "ca.pem"),
            "NOFX_GRPC_CLIENT_CERT_FILE": cert,
            "NOFX_GRPC_CLIENT_KEY_FILE": key,
        }
        nofx = kind.from_env(env)
        assert len((await ask(nofx, lambda c: c.users.list_users())).users) == 1
        with pytest.raises(errors.PermissionDenied):
            await ask(nofx, lambda c: c.admin.list_tokens())
        await close(nofx)
