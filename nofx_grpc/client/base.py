"""What both clients have in common: how they are made and set up."""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, TypedDict, Unpack

from nofx_grpc.address import DEFAULT_LISTEN
from nofx_grpc.client.calls import Policy
from nofx_grpc.client.connection import Connection, settings_of
from nofx_grpc.client.credentials import Certificates, GivenToken, Token, TokenFile
from nofx_grpc.client.errors import ClientSettingsError
from nofx_grpc.client.following import Following
from nofx_grpc.client.retries import DEFAULT_RETRY, NO_RETRY, Retry
from nofx_grpc.client.revisions import Revision, Revisions
from nofx_grpc.client.rpcs import Caller, Mode
from nofx_grpc.client.services import Services

Path = str | os.PathLike[str]


class Behaviour(TypedDict, total=False):
    """What `from_env` takes beside the environment; see `BaseClient`."""

    timeout: float
    stream_timeout: float | None
    retry: Retry
    read_your_writes: bool


class BaseClient(Services[Mode], ABC):
    """A connection to the service, with its services as attributes.

    `address` is `host:port`, `[::1]:port` or `unix:path`.  Plaintext is spoken on loopback and Unix sockets where no
    certificates are given, TLS everywhere else.  `token_file` is read again whenever the file changes.  `timeout` is in
    seconds and covers all attempts of a call; a stream has a deadline only if `stream_timeout` is given.  With
    `read_your_writes` no read is older than what this client has seen.

    Raises ClientSettingsError if it cannot be made of these.
    """

    _channel: Any

    def __init__(
        self,
        address: str = DEFAULT_LISTEN,
        *,
        token: str | None = None,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        client_cert_file: Path | None = None,
        client_key_file: Path | None = None,
        timeout: float = 10.0,
        stream_timeout: float | None = None,
        retry: Retry = DEFAULT_RETRY,
        read_your_writes: bool = True,
    ) -> None:
        connection = Connection.to(address, Certificates(ca_file, client_cert_file, client_key_file))
        credential = _token(token, token_file)
        self._address = address
        self._channel = self._open(connection)
        self._use(
            Policy(
                token=credential,
                timeout=_checked(timeout),
                stream_timeout=None if stream_timeout is None else _checked(stream_timeout),
                retry=retry,
                revisions=Revisions() if read_your_writes else None,
            )
        )

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, **behaviour: Unpack[Behaviour]) -> Self:
        """A client as the environment says.  Raises ClientSettingsError, which names the variable.

        NOFX_GRPC_ADDRESS (else NOFX_GRPC_LISTEN, else 127.0.0.1:50051); NOFX_GRPC_TOKEN_FILE or NOFX_GRPC_TOKEN;
        NOFX_GRPC_CA_FILE, NOFX_GRPC_CLIENT_CERT_FILE, NOFX_GRPC_CLIENT_KEY_FILE.
        """
        return cls(**settings_of(env), **behaviour)

    def with_options(
        self, *, timeout: float | None = None, stream_timeout: float | None = None, retry: Retry | None = None
    ) -> Self:
        """This client with other time-outs or other retries, over the same connection."""
        return self._with(
            replace(
                self._policy,
                timeout=self._policy.timeout if timeout is None else _checked(timeout),
                stream_timeout=self._policy.stream_timeout if stream_timeout is None else _checked(stream_timeout),
                retry=retry or self._policy.retry,
            )
        )

    def following(self) -> tuple[Self, Following]:
        """For whoever follows a stream: this client, leaving retries to them, and what tells them how to go on."""
        # A stream says itself which revision it shows.  And where a failover has lost commits it must not wait for a
        # revision that will never come, or come with other changes.
        policy = replace(self._policy, stream_timeout=None, retry=NO_RETRY, asks=False)
        return self._with(policy), Following(policy.token)

    def _with(self, policy: Policy) -> Self:
        other = copy.copy(self)
        other._use(policy)
        return other

    @property
    def revision(self) -> Revision | None:
        """The newest revision that this client has seen; None before its first answer, or without read_your_writes."""
        return self._policy.revisions.latest if self._policy.revisions else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r}, token={self._policy.token}, timeout={self._policy.timeout})"

    def _use(self, policy: Policy) -> None:
        self._policy = policy
        super().__init__(self._caller(policy))

    @abstractmethod
    def _open(self, connection: Connection) -> Any:
        """The channel of a connection."""

    @abstractmethod
    def _caller(self, policy: Policy) -> Caller:
        """What makes calls over the channel."""


def _token(token: str | None, token_file: Path | None) -> Token | None:
    if token is not None and token_file is not None:
        raise ClientSettingsError("token and token_file are both given: give one of them")
    if token_file is not None:
        return TokenFile(token_file)
    return None if token is None else GivenToken(token)


def _checked(timeout: float) -> float:
    if not 0 < timeout <= 86_400:
        raise ClientSettingsError(f"timeout is {timeout!r}: expected seconds, more than 0 and at most a day")
    return timeout
