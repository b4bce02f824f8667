"""One adoption from the first look to the finished file."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from nofx_grpc.crypto.encoding import Random
from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import AdoptionError
from nofx_grpc.store.adoption import staging
from nofx_grpc.store.adoption.aside import Aside
from nofx_grpc.store.adoption.clear_files import clear_files
from nofx_grpc.store.adoption.convert import Converter
from nofx_grpc.store.adoption.load import Loader
from nofx_grpc.store.adoption.report import Report, Severity
from nofx_grpc.store.adoption.rules import ConfigRules, Keys, Progress, no_progress
from nofx_grpc.store.adoption.secrets import SecretSealer, check_key
from nofx_grpc.store.adoption.source import Source, open_source
from nofx_grpc.store.adoption.staging import Building
from nofx_grpc.store.adoption.tools import Tools
from nofx_grpc.store.adoption.verify import verify
from nofx_grpc.store.bootstrap import FirstStart, fill_new, unlock
from nofx_grpc.store.schema import migrate
from nofx_grpc.store.sqlite import SqliteBackend, driver_connection

_NOFX_TABLES = {"users", "traders", "system_config"}


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is adopted, where to, and with what.  `target` is the source itself where it is adopted in place."""

    source: Path
    target: Path
    keys: Keys
    first: FirstStart
    rules: ConfigRules
    redacted_url: Callable[[str], str]
    now: datetime
    random: Random = os.urandom
    progress: Progress = no_progress

    @property
    def in_place(self) -> bool:
        return self.source == self.target

    def run(self) -> Report:
        """Adopt, and report.  Raises AdoptionError or MasterKeyError if it cannot be done: then nothing was changed."""
        started = time.monotonic()
        self._check_paths()
        self.progress("read", 0, 1)
        source = open_source(self.source)
        try:
            check_is_nofx(source)
            check_key(source, self.keys.nofx)
            report = Report(str(self.source), source.state, str(self.target), self.in_place)
            self._tell_state(source, report)
            self._adopt(source, report)
        except OSError as error:
            raise AdoptionError(f"{error.filename or self.target} cannot be used: {error.strerror}") from error
        finally:
            source.close()
        report.files_with_clear_secrets = list(clear_files(self.source, report.backup))
        report.seconds = round(time.monotonic() - started, 3)
        return report

    def _check_paths(self) -> None:
        if self.in_place:
            staging.check_nobody_has_it_open(self.source)
        else:
            staging.check_target(self.target)

    def _tell_state(self, source: Source, report: Report) -> None:
        if pids := staging.opened_by(self.source):
            detail = f"process {', '.join(map(str, pids))} has it open: what it writes from now on is not adopted"
            report.add(Severity.WARNING, "source_in_use", "", "", detail)
        for damage in source.damages():
            report.add(Severity.WARNING, "source_damaged", "", "", damage)

    def _adopt(self, source: Source, report: Report) -> None:
        master_text = self.keys.master_text()
        with staging.building(self.target) as built:
            self._build(built.path, master_text, source, report)
            self.progress("replace", 0, 1)
            if self.in_place:
                self._replace_original(built, source, report)
            else:
                staging.check_target(self.target)
                built.replace()

    def _build(self, path: Path, master_text: str, source: Source, report: Report) -> None:
        backend = SqliteBackend(path, lock_timeout=5.0)
        loaded: list[Tools] = []

        def fill(connection: Connection) -> None:
            envelope = fill_new(connection, master_text, self.first, self.now, self.random, self.keys.nofx)
            loaded.append(self._load(connection, envelope, source, report))
            self.progress("commit", 0, 1)

        migrate(backend, fill)
        self.progress("verify", 0, 1)
        tools = loaded[0]
        connection = backend.open_writer()
        try:
            envelope = unlock(backend, master_text).envelope
            verify(connection, envelope, report, tools.sealer.sealed, tools.aside.count)
            check_integrity(connection)
            backend.checkpoint(connection)
        finally:
            connection.close()

    def _load(self, connection: Connection, envelope: Envelope, source: Source, report: Report) -> Tools:
        aside = Aside(connection, envelope, report, self.now)
        sealer = SecretSealer(envelope, self.keys.nofx, self.redacted_url, report, aside)
        converter = Converter(source, sealer, report, aside, self.now, self.progress)
        tools = Tools(source, converter, sealer, aside, report, self.rules, self.now)
        Loader(connection, tools).run()
        return tools

    def _replace_original(self, built: Building, source: Source, report: Report) -> None:
        """Put the new database in the original's place, after a backup, which is removed if that fails."""
        backup = self.source.with_name(f"{self.source.name}.nofx-backup-{self.now:%Y%m%dT%H%M%SZ}")
        if backup.exists():
            raise AdoptionError(f"{backup} exists: move it away")
        with staging.exclusive(source):
            try:
                staging.write_backup(source, backup)
                keep_owner(self.source, built.path)
                built.replace()
            except OSError as error:
                backup.unlink(missing_ok=True)
                raise AdoptionError(f"{self.source} cannot be replaced: {error.strerror}") from error
        report.backup = str(backup)


def check_is_nofx(source: Source) -> None:
    """Raises AdoptionError, which says what it is, unless the database is NOFX's."""
    if {"alembic_version", "store_state"} <= source.tables.keys():
        raise AdoptionError(f"{source.path} is nofx-grpc's already: there is nothing to adopt")
    if missing_tables := _NOFX_TABLES - source.tables.keys():
        missing = ", ".join(sorted(missing_tables))
        raise AdoptionError(f"{source.path} is not a database of NOFX: it has no table {missing}")


def check_integrity(connection: Connection) -> None:
    """Raises AdoptionError unless SQLite finds the new file whole."""
    raw = driver_connection(connection)
    found = [str(row[0]) for row in raw.execute("PRAGMA integrity_check")]
    if found != ["ok"] or raw.execute("PRAGMA foreign_key_check").fetchall():
        raise AdoptionError(f"verification failed: the new database is damaged: {found[:3]}")


def keep_owner(original: Path, path: Path) -> None:
    """Give the new file the original's owner, so that whoever ran NOFX can run the server."""
    stat = original.stat()
    with suppress(PermissionError) if os.geteuid() != 0 else nullcontext():
        os.chown(path, stat.st_uid, stat.st_gid)
