"""Whether somebody may register now, by two keys of the system configuration."""

from nofx_grpc.errors import BetaCodeInvalid, RegistrationClosed
from nofx_grpc.services import config_keys
from nofx_grpc.store import system_config
from nofx_grpc.store.engine import Connection


def code_to_spend(connection: Connection, code: str) -> str:
    """The beta code that a registration must spend now, or ''.  Raises RegistrationClosed, BetaCodeInvalid."""
    if not read_config(connection, "registration_enabled"):
        raise RegistrationClosed
    if not read_config(connection, "beta_mode"):
        return ""
    if not code:
        raise BetaCodeInvalid
    return code


def read_config(connection: Connection, key: str) -> bool:
    """A switch of the system configuration as of this transaction."""
    entry = system_config.resource.find(connection, key)
    return bool(config_keys.read(key, entry.value if entry else None))
