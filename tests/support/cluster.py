"""A PostgreSQL primary with a standby, on TCP ports of this machine: paused, killed and promoted as a test likes."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgresql import shared_server


class Node:
    """One server of a cluster.  Unlike the shared one it writes through to the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, _free_port()
        self._bin, self._user = shared_server().installation

    def make(self, *options: str) -> None:
        """Make a new database cluster, of which standbys can be made."""
        usual = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", *usual, *options, str(self.directory))
        self._configure()

    def make_standby_of(self, primary: "Node", name: str) -> None:
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        target = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata", str(self.directory)]
        self._run("pg_basebackup", "--dbname", source, *target)
        self._configure()

    def start(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.directory), "-l", f"{self.directory}.log", "start")

    def stop(self, mode: str) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.directory), "-m", mode, "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.directory), "promote")

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if its machine was lost: no connection is closed with a word."""
        self._signal(signal.SIGKILL)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def processes(self) -> list[int]:
        """The ids of the processes that it consists of: none if it does not run."""
        try:
            postmaster = int((self.directory / "postmaster.pid").read_text().splitlines()[0])
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        except FileNotFoundError:
            return []
        return [postmaster, *map(int, children)]

    def limit_files(self, size: int | None) -> None:
        """Let no file grow beyond a size in bytes from now on; None lets them all grow."""
        for pid in self.processes():
            try:
                self._run("/usr/bin/prlimit", f"--fsize={size or 'unlimited'}:", "--pid", str(pid))
            except AssertionError:
                if Path(f"/proc/{pid}").exists():  # else it has ended meanwhile
                    raise

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as c:
            cursor = c.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def _configure(self) -> None:
        settings = {"port": self.port, "listen_addresses": "'127.0.0.1'", "unix_socket_directories": "''"}
        with (self.directory / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *arguments: str) -> None:
        # Not as root, which PostgreSQL refuses to be run by; and not with pipes, which the server would keep open.
        # By a command, because to fork for it would disturb gRPC's threads.
        other = ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"] if self._user else []
        with tempfile.TemporaryFile() as said:
            command = [*other, str(self._bin / program), *arguments]
            done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False)
            said.seek(0)
            assert done.returncode == 0, f"{command}: {done.returncode} {said.read().decode()}"


class Cluster:
    """A primary and its standby."""

    def __init__(self, directory: Path) -> None:
        self.primary, self.standby = Node(directory / "primary"), Node(directory / "standby")
        self.current = self.primary  # which may be written to

    @property
    def url(self) -> str:
        """Both hosts: whichever may be written to is taken."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql+psycopg://postgres@{hosts}/postgres"

    def start(self, *, synchronous: bool) -> None:
        self.primary.make()
        self.primary.start()
        self.standby.make_standby_of(self.primary, "standby")
        self.standby.start()
        if synchronous:
            self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.execute("SELECT pg_reload_conf()")
            while not self.primary.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
                time.sleep(0.1)

    def part(self) -> None:
        """From now on the standby hears nothing of the primary."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.execute("SELECT pg_reload_conf()")
        while self.primary.execute("SELECT 1 FROM pg_stat_replication"):
            time.sleep(0.1)

    def fail_over(self) -> None:
        """The primary's machine is lost, and the standby takes its place."""
        self.primary.kill()
        self.standby.promote()
        self.current = self.standby


@contextmanager
def cluster(*, synchronous: bool) -> Iterator[Cluster]:
    """A running cluster over a directory that goes with it."""
    directory = Path(tempfile.mkdtemp(prefix="nofx-cluster-"))
    if (user := shared_server().installation[1]) is not None:
        shutil.chown(directory, user)
    made = Cluster(directory)
    try:
        made.start(synchronous=synchronous)
        yield made
    finally:
        for node in (made.primary, made.standby):
            node.resume()
            node.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
