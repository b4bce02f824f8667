"""Rules across fields that protect stored secrets (design §3)."""

from collections.abc import Mapping
from typing import Any

from nofx_grpc.crypto.envelope import is_sealed
from nofx_grpc.errors import SecretMustBeReentered
from nofx_grpc.services.convert import header


def check_reentered(
    current: object, changes: Mapping[str, Any], *, where: tuple[str, ...], secrets: tuple[str, ...]
) -> None:
    """Raises SecretMustBeReentered if a change redirects a stored secret that is not given anew.

    Otherwise whoever has a gateway's token could have an engine send the stored key to a place of their own.  `where`
    are the fields that say where the secrets go.
    """
    redirected = [name for name in where if name in changes and _differs(getattr(current, name), changes[name])]
    kept = [name for name in secrets if getattr(current, name) and name not in changes]
    if redirected and kept:
        raise SecretMustBeReentered(redirected[0], kept)


def _differs(before: Any, after: Any) -> bool:
    """Whether two values differ; sealed ones are told apart by what their headers tell, whatever key sealed them.

    What is shown counts too: the 32 bits of a fingerprint alone could be met by trying one URL after another.
    """
    if isinstance(before, str) and (is_sealed(before) or is_sealed(after)):
        return header(before)[1:] != header(after)[1:]
    return bool(before != after)
