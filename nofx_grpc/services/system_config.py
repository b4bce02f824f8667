"""The service SystemConfig: settings that hold for the whole installation."""

import asyncio
import secrets
from dataclasses import dataclass, field

from nofx_grpc.crypto.envelope import Envelope, Location
from nofx_grpc.errors import InvalidArgument, NotFound, PermissionDenied, SecretUnreadable, Violation
from nofx_grpc.services import config_file, config_keys
from nofx_grpc.services.call import Call
from nofx_grpc.services.config_file import MOST_IGNORED, ConfigFile
from nofx_grpc.services.config_keys import JWT_SECRET, KNOWN, key_of
from nofx_grpc.services.convert import header, redacted_url, to_timestamp
from nofx_grpc.services.pages import Pages
from nofx_grpc.store import audit, system_config
from nofx_grpc.store.audit import AuditRecord
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.resources import etag_of
from nofx_grpc.store.system_config import ConfigEntry
from nofx_grpc.v1 import system_config_pb2 as pb

_SECRET_BYTES = 48


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that was checked, the text to be stored for it, and the etag that the entry must have."""

    key: str
    value: str = field(repr=False)
    stored: str = field(repr=False)
    etag: str = ""


class SystemConfig:
    """Reads and sets the system's configuration; reveals its secrets to whoever may have them."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SystemConfig"]

    def __init__(self, envelope: Envelope, pages: Pages) -> None:
        self._envelope, self._pages = envelope, pages

    async def GetSystemConfig(self, request: pb.GetSystemConfigRequest, call: Call) -> pb.ConfigEntry:
        return await call.read(
            lambda entry: to_proto(stored_or_known(request.key, entry)), system_config.resource.find, request.key
        )

    async def ListSystemConfig(self, request: pb.ListSystemConfigRequest, call: Call) -> pb.ListSystemConfigResponse:
        listing = system_config.Listing(KNOWN)
        return await self._pages.answer(request, call, listing, to_proto, pb.ListSystemConfigResponse)

    async def SetSystemConfig(self, request: pb.SetSystemConfigRequest, call: Call) -> pb.SetSystemConfigResponse:
        check_distinct(request)
        settings = self._check(request)
        return await call.write(
            lambda entries: pb.SetSystemConfigResponse(entries=map(to_proto, entries)), self._store, settings
        )

    async def GetPublicConfig(self, request: pb.GetPublicConfigRequest, call: Call) -> pb.PublicConfig:
        return await call.read(
            lambda values: pb.PublicConfig(
                revision=call.revision,
                **{name: config_keys.read(name, values.get(name)) for name in config_keys.PUBLIC},
            ),
            system_config.find_values,
            config_keys.PUBLIC,
        )

    async def ImportConfigFile(self, request: pb.ImportConfigFileRequest, call: Call) -> pb.ImportConfigFileResponse:
        file = await asyncio.to_thread(config_file.parse, request.content)  # a large one takes tens of milliseconds
        settings = [Setting(key, text, self._seal(key, text)) for key, text in sorted(file.values.items())]
        return await call.write(
            lambda changed: pb.ImportConfigFileResponse(entries=map(to_proto, changed), ignored=ignored_keys(file)),
            self._store_changes,
            settings,
        )

    async def AccessSystemSecret(
        self, request: pb.AccessSystemSecretRequest, call: Call
    ) -> pb.AccessSystemSecretResponse:
        check_may_reveal(call, request.key)
        check_is_secret(request.key)
        return await call.reveal(self._revealed, system_config.resource.get, request.key)

    def _revealed(self, entry: ConfigEntry) -> pb.AccessSystemSecretResponse:
        if not entry.value:
            raise NotFound(system_config.resource.kind, entry.key)
        return pb.AccessSystemSecretResponse(value=self._open(entry), revision=entry.revision)

    def _check(self, request: pb.SetSystemConfigRequest) -> list[Setting]:
        """The settings of a request.  Raises InvalidArgument with every value that is wrong."""
        settings, violations = [], []
        for index, setting in enumerate(request.settings):
            try:
                text = config_keys.check(setting.key, setting.value)
                settings.append(Setting(setting.key, text, self._seal(setting.key, text), setting.etag))
            except InvalidArgument as error:
                violations += [Violation(f"settings[{index}].value", str(error))]
        if violations:
            raise InvalidArgument(*violations)
        return settings

    def _store(self, connection: Connection, settings: list[Setting]) -> list[ConfigEntry]:
        """Store all settings.  Raises EtagMismatch."""
        return [
            system_config.put(connection, setting.key, self._to_store(connection, setting), setting.etag)
            for setting in settings
        ]

    def _store_changes(self, connection: Connection, settings: list[Setting]) -> list[ConfigEntry]:
        """Store all settings, and tell those that have changed."""
        before = system_config.find_values(connection, [setting.key for setting in settings])
        return [entry for entry in self._store(connection, settings) if before.get(entry.key) != entry.value]

    def _to_store(self, connection: Connection, setting: Setting) -> str:
        """The text to store: what is stored, if it is the same secret, for sealed anew it would look like a change."""
        entry = system_config.resource.find(connection, setting.key) if key_of(setting.key).secret else None
        try:
            return entry.value if entry and self._open(entry) == setting.value else setting.stored
        except SecretUnreadable:
            return setting.stored

    def _open(self, entry: ConfigEntry) -> str:
        return self._envelope.open(entry.value, _location(entry.key))

    def _seal(self, key: str, text: str) -> str:
        return sealed_if_secret(self._envelope, key, text)


def seed_values(envelope: Envelope) -> dict[str, str]:
    """What a new store's system configuration holds, as it is stored."""
    values = config_keys.defaults(secrets.token_urlsafe(_SECRET_BYTES))
    return {key: sealed_if_secret(envelope, key, text) for key, text in values.items()}


def lacks_jwt_secret(connection: Connection, envelope: Envelope) -> bool:
    """Whether no JWT secret is stored, or one that NOFX has published.

    One that does not open is none of these: its key may come back.
    """
    entry = system_config.resource.find(connection, JWT_SECRET)
    try:
        current = envelope.open(entry.value, _location(JWT_SECRET)) if entry else ""
    except SecretUnreadable:
        return False
    return not current or config_keys.is_published(current)


def ensure_jwt_secret(connection: Connection, envelope: Envelope) -> None:
    """Make a JWT secret, on the record, if there is none that is one.  For every start: a database may be adopted."""
    if lacks_jwt_secret(connection, envelope):
        made = secrets.token_urlsafe(_SECRET_BYTES)
        system_config.put(connection, JWT_SECRET, sealed_if_secret(envelope, JWT_SECRET, made))
        audit.append(connection, AuditRecord("system", "", "start", ""))


def to_proto(entry: ConfigEntry) -> pb.ConfigEntry:
    """The public entry: a fingerprint where the value is secret, the default where none is stored."""
    key, stored = key_of(entry.key), entry.revision > 0
    message = pb.ConfigEntry(
        key=key.name,
        value_set=bool(entry.value),
        secret=key.secret,
        is_public=key.is_public,
        type=key.type,
        default_value=key.default,
        known=key.known,
    )
    if stored:
        message.etag, message.revision = etag_of(entry), entry.revision
        message.update_time.CopyFrom(to_timestamp(entry.updated_at))
    if key.secret:
        message.value_fingerprint, message.value_redacted = header(entry.value).fingerprint, header(entry.value).shown
    else:
        message.value = entry.value if stored else key.default
    return message


def stored_or_known(key: str, entry: ConfigEntry | None) -> ConfigEntry:
    """The entry, or that of a known key that is not stored.  Raises NotFound."""
    if entry is None and key not in KNOWN:
        raise NotFound(system_config.resource.kind, key)
    return entry or system_config.not_stored(key)


def ignored_keys(file: ConfigFile) -> list[pb.IgnoredConfigKey]:
    """The keys of a file that were not taken; of very many the first, and how many more."""
    shown = [pb.IgnoredConfigKey(key=key, reason=reason) for key, reason in file.ignored[:MOST_IGNORED]]
    if (more := len(file.ignored) - MOST_IGNORED) > 0:
        shown.append(pb.IgnoredConfigKey(reason=f"and {more} more keys that were not taken"))
    return shown


def sealed_if_secret(envelope: Envelope, key: str, text: str) -> str:
    """The text to be stored for a checked value."""
    if not key_of(key).secret:
        return text
    shown = redacted_url(text) if key_of(key).type == pb.CONFIG_TYPE_URL else ""
    return envelope.seal(text, _location(key), shown=shown)


def check_distinct(request: pb.SetSystemConfigRequest) -> None:
    """Raises InvalidArgument if a key is given twice."""
    seen: set[str] = set()
    for index, setting in enumerate(request.settings):
        if setting.key in seen:
            raise InvalidArgument(Violation(f"settings[{index}].key", f"{setting.key!r} is given twice"))
        seen.add(setting.key)


def check_may_reveal(call: Call, key: str) -> None:
    """Raises PermissionDenied for what a gateway has no need of: it signs sessions, and nothing else."""
    if call.identity.role != "admin" and key != JWT_SECRET:
        raise PermissionDenied(f"the role {call.identity.role!r} may read {JWT_SECRET!r} only, not {key!r}")


def check_is_secret(key: str) -> None:
    """Raises InvalidArgument for a key that is no secret."""
    if not key_of(key).secret:
        raise InvalidArgument(Violation("key", f"{key!r} is no secret: GetSystemConfig answers it"))


def _location(key: str) -> Location:
    return Location(system_config.system_config.name, "value", "", key)
