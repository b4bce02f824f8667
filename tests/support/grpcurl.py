"""Runs the grpcurl lines that we print.  Where grpcurl is not installed `buf curl` stands in, with the same options."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path


def run_line(line: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Give a line to a shell, as it stands; `directory` is for what stands in."""
    programs = directory / "bin"
    if shutil.which("grpcurl") is None and not programs.exists():
        programs.mkdir()
        (programs / "grpcurl").write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
        (programs / "grpcurl").chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(directory)}
    return subprocess.run(line, shell=True, env=env, capture_output=True, text=True, check=False)  # noqa: S602  # a shell is what the line is for


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true")
    for name in ("-cacert", "-cert", "-key", "-authority", "-H"):
        parser.add_argument(name)
    parser.add_argument("address")
    parser.add_argument("method")
    options = parser.parse_args()
    buf = str(Path(sys.executable).with_name("buf"))
    os.execv(buf, [buf, "curl", "--protocol", "grpc", *_options(options), _url(options)])  # noqa: S606  # as a shell does


def _options(options: argparse.Namespace) -> list[str]:
    renamed = {"--cacert": options.cacert, "--cert": options.cert, "--key": options.key, "-H": options.H}
    renamed |= {"--servername": options.authority, "--reflect-header": options.H}
    if options.plaintext:
        renamed["--http2-prior-knowledge"] = ""
    if options.address.startswith("unix:"):
        renamed["--unix-socket"] = options.address.removeprefix("unix:")
    return [part for name, value in renamed.items() if value is not None for part in (name, value) if part]


def _url(options: argparse.Namespace) -> str:
    host = "localhost" if options.address.startswith("unix:") else options.address
    return f"{'http' if options.plaintext else 'https'}://{host}/{options.method}"


if __name__ == "__main__":
    main()
