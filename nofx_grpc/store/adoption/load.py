"""The load: every row of the source checked against the others and written to the new store, or set aside."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, insert, select, update

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.store import beta_codes, exchanges, models, signal_sources, traders, users
from nofx_grpc.store.adoption import rows
from nofx_grpc.store.adoption.aside import shown_key
from nofx_grpc.store.adoption.checks import Finding, check_trader, check_user
from nofx_grpc.store.adoption.config import load_config
from nofx_grpc.store.adoption.emails import email_keys
from nofx_grpc.store.adoption.references import References
from nofx_grpc.store.adoption.report import Severity
from nofx_grpc.store.adoption.rows import Row
from nofx_grpc.store.adoption.tools import Tools
from nofx_grpc.store.seed import FIRST_REVISION
from nofx_grpc.store.users import DEFAULT_USER

_BATCH: Final = 1000
_KNOWN: Final = {spec.name for spec in rows.TABLES} | {rows.EXCHANGES_LEFT}

# For the template user, where a user of NOFX has the e-mail that it is seeded with.
_OTHER_DEFAULT_EMAIL: Final = "default@nofx-grpc.invalid"

Values = dict[str, Any]


class Loader:
    """Loads one source into a store that was just seeded, in the caller's transaction."""

    def __init__(self, connection: Connection, tools: Tools) -> None:
        self._connection, self._tools, self._report = connection, tools, tools.report
        self._references = References()

    def run(self) -> None:
        """Load everything.  Raises AdoptionError if the source cannot be read."""
        has_default_user = self._load_users()
        templates = self._load_with_templates(models.ai_models, self._models())
        templates += self._load_with_templates(exchanges.exchanges, self._exchanges())
        if templates and not has_default_user:
            detail = "NOFX's templates belong to a user that it has no row for: one was made, which cannot log in"
            self._report.add(Severity.INFO, "default_user_has_no_row", "users", DEFAULT_USER, detail)
        self._insert(signal_sources.user_signal_sources, self._signal_sources())
        self._insert(traders.traders, self._traders())
        load_config(self._connection, self._tools)
        self._insert(beta_codes.beta_codes, self._beta_codes())
        self._keep_unknown_tables()
        self._tools.aside.flush()

    def _load_users(self) -> bool:
        """Write the users; whether the template user was among them."""
        found = list(self._tools.converter.rows(rows.USERS, set()))
        keys = email_keys(found)
        has_default_user = DEFAULT_USER in keys
        seeded = users.users.c.id == DEFAULT_USER
        if has_default_user:
            self._connection.execute(delete(users.users).where(seeded))
        elif "default@localhost" in keys.values() or "default@localhost" in {row.values["email"] for row in found}:
            email = {"email": _OTHER_DEFAULT_EMAIL, "email_key": _OTHER_DEFAULT_EMAIL}
            self._connection.execute(update(users.users).where(seeded).values(email))
        self._insert(users.users, self._users(found, keys))
        return has_default_user

    def _users(self, found: list[Row], keys: dict[str, str]) -> Iterator[Values]:
        for row in found:
            id, email = row.key[0], row.values["email"]
            otp_secret = self._tools.sealer.sealed.get(Location("users", "otp_secret", id, ""), "")
            if id not in keys:
                self._tools.sealer.sealed.pop(Location("users", "otp_secret", id, ""), None)
                self._tools.aside.row("users", row.key, "duplicate_email", row.original, "another user has this e-mail")
                continue
            if keys[id] != email.lower():
                detail = "differs from another user's by case only: this one logs in with its exact form"
                self._report.add(Severity.WARNING, "email_differs_by_case", "users", id, detail)
            self._references.users.add(id)
            self._tell("users", row, check_user(row.values, otp_secret))
            yield self._with_second_factor(row, row.values | {"email_key": keys[id]})

    def _with_second_factor(self, row: Row, values: Values) -> Values:
        """The user, who cannot log in where the OTP secret is gone: the password alone must not do."""
        if not values["otp_verified"] or values["otp_secret"]:
            return values
        todo = "an admin has to reset it, then the registration is to be completed"
        if row.original.get("otp_secret"):
            self._report.add(Severity.ERROR, "otp_secret_lost", "users", row.key[0], f"it cannot be read: {todo}")
        elif values["password_hash"]:
            self._report.add(Severity.WARNING, "otp_secret_missing", "users", row.key[0], f"there is none: {todo}")
        else:
            return values  # there is no password either, until an admin sets one, who then vouches for the user
        return values | {"otp_verified": False}

    def _models(self) -> Iterator[Values]:
        for row in self._rows(rows.MODELS):
            self._references.add_model(row.values["user_id"], row.key[0], row.values["provider"])
            yield row.values

    def _exchanges(self) -> Iterator[Values]:
        left = rows.EXCHANGES_LEFT
        if left in self._tools.source.tables:
            detail = "NOFX's rebuild of exchanges was interrupted: rows that are only here were adopted too"
            self._report.add(Severity.WARNING, "leftover_table", left, "", detail)
        for row in self._rows(rows.EXCHANGES):
            self._references.add_exchange(row.values["user_id"], row.key[0])
            yield row.values
        for row in self._rows(rows.EXCHANGES, left):
            self._references.add_exchange(row.values["user_id"], row.key[0])
            self._report.table(left).adopted += 1
            self._report.table(rows.EXCHANGES.name).adopted -= 1  # `_insert` counts it there
            yield row.values

    def _signal_sources(self) -> Iterator[Values]:
        ids: set[int] = set()
        without_id = []
        for row in self._rows(rows.SIGNAL_SOURCES):
            id = row.values["id"]
            if id is None or id in ids:
                without_id.append(row.values | {"id": None})  # nothing refers to it: the store gives a new one
                continue
            ids.add(id)
            yield row.values
        yield from without_id  # at the end, so that no new one is that of a row to come

    def _traders(self) -> Iterator[Values]:
        for row in self._rows(rows.TRADERS):
            user_id, reference = row.values["user_id"], row.values["ai_model_id"]
            model = self._references.model(user_id, reference)
            if model is None:
                detail = f"user {user_id!r} has no model {reference!r}"
                self._tools.aside.row("traders", row.key, "model_missing", row.original, detail)
                continue
            if not self._references.has_exchange(user_id, row.values["exchange_id"]):
                detail = f"user {user_id!r} has no exchange {row.values['exchange_id']!r}"
                self._tools.aside.row("traders", row.key, "exchange_missing", row.original, detail)
                continue
            if model != reference:
                detail = f"ai_model_id {reference!r} is a provider: the model {model!r} was taken, as NOFX does"
                self._report.add(Severity.INFO, "model_by_provider", "traders", row.key[0], detail)
            self._tell("traders", row, check_trader(row.values))
            yield row.values | {"ai_model_id": model}

    def _beta_codes(self) -> Iterator[Values]:
        for row in self._rows(rows.BETA_CODES):
            yield row.values | {"updated_at": row.values["used_at"] or row.values["created_at"]}

    def _rows(self, spec: rows.TableSpec, table: str = "") -> Iterator[Row]:
        return self._tools.converter.rows(spec, self._references.users, table=table)

    def _load_with_templates(self, table: Table, values: Iterable[Values]) -> int:
        """Write a table whose templates replace those that were seeded; how many templates there were.

        The seeded ones come back where the source has none.
        """
        of_default = table.c.user_id == DEFAULT_USER
        seeded = [dict(row._mapping) for row in self._connection.execute(select(table).where(of_default))]
        self._connection.execute(delete(table).where(of_default))
        self._insert(table, values)
        templates = len(self._connection.execute(select(table.c.id).where(of_default)).all())
        if not templates:
            taken = set(self._connection.execute(select(table.c.id)).scalars()) if table is models.ai_models else set()
            missing = [row for row in seeded if row["id"] not in taken]
            if missing:
                self._connection.execute(insert(table), missing)
        return templates

    def _insert(self, table: Table, values: Iterable[Values]) -> None:
        statement = insert(table)
        remaining = iter(values)
        while batch := [row | {"revision": FIRST_REVISION} for row in islice(remaining, _BATCH)]:
            self._connection.execute(statement, batch)
            self._report.table(table.name).adopted += len(batch)

    def _tell(self, table: str, row: Row, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._report.add(finding.severity, finding.code, table, shown_key(row.key), finding.detail)

    def _keep_unknown_tables(self) -> None:
        for table in self._tools.source.tables:
            if table in _KNOWN:
                continue
            count = self._tools.source.count(table)
            detail = f"not a table of NOFX: its {count} rows were set aside"
            self._report.add(Severity.WARNING, "unknown_table", table, "", detail)
            counts = self._report.table(table)
            for number, row in enumerate(self._tools.source.rows(table), start=1):
                counts.read, counts.set_aside = counts.read + 1, counts.set_aside + 1
                self._tools.aside.keep(table, (f"row {number}",), "unknown_table", row, "")
