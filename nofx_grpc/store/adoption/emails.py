"""E-mails of NOFX are unique by their exact form, here without case: adopted twins keep their exact form."""

from collections.abc import Iterable
from datetime import datetime

from nofx_grpc.store.adoption.rows import Row

# Before the exact form of a twin's e-mail.  A colon cannot stand in an e-mail's local part unless it is quoted.
EXACT = "exact:"


def email_keys(rows: Iterable[Row]) -> dict[str, str]:
    """The `email_key` of each user by id: of twins the oldest has the lower-case form, the others the marked exact one.

    A user whose exact e-mail an older one has is left out.
    """
    keys: dict[str, str] = {}
    taken: set[str] = set()
    emails: set[str] = set()
    for row in sorted(rows, key=_age):
        email = row.values["email"]
        if email in emails:
            continue
        lower = email.lower()
        key = lower if lower not in taken else EXACT + email
        emails.add(email)
        taken.add(key)
        keys[row.key[0]] = key
    return keys


def _age(row: Row) -> tuple[datetime, str]:
    return row.values["created_at"], row.key[0]
