"""Looks for secrets where they must not be, in every form that they may have taken on the way."""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

# Where two secrets of the first start belong, each in a file of its own.
BELONG = ("tokens/", "master.key")


def forms(secret: str) -> dict[str, bytes]:
    """The bytes by which a secret is found, by the name of the form."""
    raw = secret.encode()
    found = {
        "plain": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "url-encoded": quote(secret, safe="").encode(),
        "UTF-16 LE": secret.encode("utf-16-le"),
        "UTF-16 BE": secret.encode("utf-16-be"),
    }
    for shift in range(3):  # what base64 makes of a text depends on how many bytes stand before it
        text = b64encode(b"\0" * shift + raw).rstrip(b"=")
        inside = text[(0, 2, 3)[shift] :]
        # The last character holds bits of whatever follows the secret.
        inside = inside if (shift + len(raw)) % 3 == 0 else inside[:-1]
        found[f"base64 after {shift}"] = inside
        found[f"base64url after {shift}"] = inside.replace(b"+", b"-").replace(b"/", b"_")
    return found


class Secrets:
    """The secrets that are looked for."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = {bytes_: (secret, name) for secret in secrets for name, bytes_ in forms(secret).items()}
        short = [secret for secret, name in self._forms.values() if len(secret) < 8]
        assert not short, f"too short not to be found by chance: {short}"
        self._pattern = re.compile(
            b"|".join(re.escape(bytes_) for bytes_ in sorted(self._forms, key=len, reverse=True))
        )

    def found_in(self, content: bytes, where: str) -> list[str]:
        """What was found, one line for each secret and form."""
        hits = {self._forms[bytes_] for bytes_ in self._pattern.findall(content)}
        return sorted(f"{secret!r} in {where}, {form}" for secret, form in hits)

    def found_in_files(self, directory: Path) -> list[str]:
        """What was found in the files below a directory, but for those that the secrets belong in."""
        found = []
        for path in sorted(directory.rglob("*")):
            name = str(path.relative_to(directory))
            if path.is_file() and not name.startswith(BELONG):
                found += self.found_in(path.read_bytes(), name)
        return found

    def found_in_all(self, contents: Mapping[str, bytes]) -> list[str]:
        return [line for where, content in contents.items() for line in self.found_in(content, where)]
