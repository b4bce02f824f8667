"""Who calls: by a token, by a client certificate, or by both."""

from collections.abc import Iterable

from nofx_grpc.errors import Unauthenticated
from nofx_grpc.rpc.certificates import ClientCertificates
from nofx_grpc.rpc.credentials import Credential
from nofx_grpc.rpc.identity import Tokens
from nofx_grpc.services.call import Identity


class Callers:
    """Tells who shows a credential."""

    def __init__(self, tokens: Tokens, certificates: ClientCertificates | None = None) -> None:
        self._tokens, self._certificates = tokens, certificates

    async def identify(self, shown: Credential, *, as_known: bool = False) -> Identity:
        """The identity behind a credential, for whoever shows two that which both allow.  Raises Unauthenticated.

        `as_known` takes a token as it was looked up last, as `Tokens.identify` does; certificates are looked at anew.
        """
        if self._certificates is None or shown.certificate is None:
            return await self._tokens.identify(shown.authorization, local=shown.local, as_known=as_known)
        by_certificate = self._certificates.identify(shown.certificate)
        if shown.authorization is None:
            return by_certificate
        by_token = await self._tokens.identify(shown.authorization, local=shown.local, as_known=as_known)
        return both(by_certificate, by_token)

    async def refresh(self, shown: Iterable[Credential]) -> None:
        """Look up the tokens among these, of callers who were identified before, in few reads."""
        await self._tokens.refresh(credential.authorization for credential in shown)


def both(one: Identity, other: Identity) -> Identity:
    """What two identities allow at the same time.  Raises Unauthenticated if they are limited to different users."""
    principal = f"{one.principal}+{other.principal}"
    if one.user_id and other.user_id and one.user_id != other.user_id:
        raise Unauthenticated("the certificate and the token are for different users", principal=principal)
    # "gateway+admin" is none of the roles: what asks for one by name treats it as neither.
    role = one.role if one.role == other.role else f"{one.role}+{other.role}"
    permissions, token_id = one.permissions & other.permissions, one.token_id or other.token_id
    return Identity(principal, role, permissions, one.user_id or other.user_id, token_id)
