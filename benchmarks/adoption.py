"""A large NOFX database adopted: time, and the command's memory.

    python -m benchmarks.adoption [number of traders]

A fifth as many users, each with a model and an exchange whose secrets NOFX encrypted, and as many traders as asked for.
"""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nofx_grpc.crypto.nofx import derive_key
from tests.support import nofx_db

SAMPLE = Path(__file__).parents[1] / "tests/data/nofx-sample/config.db"
TRADERS_OF_A_USER = 5


def main(traders: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, data_dir = Path(directory, "config.db"), Path(directory, "data")
        build(source, traders)
        size = source.stat().st_size / 2**20
        env = os.environ | {"NOFX_GRPC_DATA_DIR": str(data_dir), "DATA_ENCRYPTION_KEY": nofx_db.KEY}
        started = time.perf_counter()
        command = [str(Path(sys.executable).with_name("nofx-grpc")), "adopt", str(source)]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{traders:,} traders, {size:.0f} MiB: {seconds:.1f} s, at most {memory:.0f} MiB of memory")


def build(path: Path, traders: int) -> None:
    """Add users, models, exchanges and traders to a copy of the sample."""
    path.write_bytes(SAMPLE.read_bytes())
    aes_gcm = AESGCM(derive_key(nofx_db.KEY))

    def secret() -> str:
        """A random secret as NOFX stores one."""
        nonce = os.urandom(12)
        ciphertext = aes_gcm.encrypt(nonce, os.urandom(32).hex().encode(), None)
        return f"ENC:v1:{b64encode(nonce).decode()}:{b64encode(ciphertext).decode()}"

    numbers = range(traders // TRADERS_OF_A_USER)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO users (id, email, password_hash) VALUES (?, ?, ?)",
            ((f"u{n}", f"u{n}@example.com", nofx_db.BCRYPT) for n in numbers),
        )
        connection.executemany(
            "INSERT INTO ai_models (id, user_id, name, provider, enabled, api_key)"
            " VALUES (?, ?, 'M', 'deepseek', 1, ?)",
            ((f"u{n}_deepseek", f"u{n}", secret()) for n in numbers),
        )
        connection.executemany(
            "INSERT INTO exchanges (id, user_id, name, type, enabled, api_key, secret_key)"
            " VALUES ('binance', ?, 'B', 'cex', 1, ?, ?)",
            ((f"u{n}", secret(), secret()) for n in numbers),
        )
        connection.executemany(
            "INSERT INTO traders (id, user_id, name, ai_model_id, exchange_id, initial_balance)"
            " VALUES (?, ?, 'T', ?, 'binance', 1000)",
            ((f"t{n}_{k}", f"u{n}", f"u{n}_deepseek") for n in numbers for k in range(TRADERS_OF_A_USER)),
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
