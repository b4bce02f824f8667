"""The codes of the report's problems, and what each means.  Programs rely on them: they are added, never renamed."""

from typing import Final

CODES: Final = {
    # as NOFX leaves it
    "default_user_has_no_row": "NOFX's templates belong to the user `default`, who has no row; one was made",
    "user_otp_unverified": "the registration was not completed; it still can be",
    "user_without_password": "no password can match; an admin has to set one",
    "secret_in_clear": "NOFX had stored the secret in clear; it is sealed now",
    "model_by_provider": "the trader named its model by the provider; it has the model's id now",
    "column_missing": "the database is older than the column; its default was taken",
    # secrets
    "secret_undecryptable": "the value looks encrypted and does not open: emptied, kept aside",
    "secret_not_text": "the value is bytes that are no text: emptied, kept aside",
    "secret_looks_encrypted": "what was decrypted looks encrypted itself; it is the secret, as for NOFX",
    "text_was_encrypted": "a value that is no secret was encrypted; it is in clear now",
    "text_looks_encrypted": "a value that is no secret looks encrypted and does not open; kept as it is",
    "encrypted_config_value": "NOFX had encrypted the value of an unknown key: emptied, kept aside",
    "otp_secret_invalid": "the one-time password secret is not base32; an admin has to reset it",
    "otp_secret_missing": "a verified user without a one-time password secret: cannot log in; an admin has to reset it",
    "otp_secret_lost": "the one-time password secret cannot be read: the user cannot log in; an admin has to reset it",
    "password_hash_unknown": "the password hash is not bcrypt; an admin has to set a password",
    "jwt_secret_replaced": "the JWT secret was empty; a new one was made",
    "jwt_secret_published": "the JWT secret is public: kept aside, a new one was made, web sessions end",
    # rows
    "owner_missing": "the row belongs to a user who does not exist: set aside",
    "model_missing": "the trader's user has no such model: set aside",
    "exchange_missing": "the trader's user has no such exchange: set aside",
    "key_missing": "the row has no key: set aside",
    "duplicate_key": "another row with this key was adopted: set aside",
    "duplicate_email": "an older user has this very e-mail: set aside",
    "email_differs_by_case": "an older user's e-mail differs by case only; this user logs in with its exact form",
    "user_without_email": "the user has no e-mail and cannot log in",
    "leftover_table": "NOFX's rebuild of `exchanges` was interrupted; rows only in `exchanges_new` were adopted",
    "table_missing": "the database has no such table",
    "unknown_table": "not a table of NOFX: its rows were set aside",
    "unknown_column": "not a column of NOFX: its values were set aside",
    "unknown_config_key": "the key is unknown; its value is kept as text that every reader may see",
    # values
    "value_missing": "NULL where NOFX always has a value; a default was taken",
    "value_out_of_range": "kept, but the API would not take it",
    "config_value_invalid": "kept, but the API would not take it; the key's default holds where it is used",
    "control_characters": "kept with its control characters (or byte-order mark)",
    "key_not_addressable": "the id has control characters or more than 512 bytes: no request can name it",
    "nul_removed": "the text had a NUL character, which was removed; the original is kept aside",
    "not_text": "no text in a text column; converted, the original kept aside where that loses something",
    "not_utf8": "the text is not UTF-8; repaired, the original kept aside",
    "not_boolean": "no 0 or 1; converted, or the default taken and the original kept aside",
    "not_integer": "no integer of 32 bits; converted, or the default taken and the original kept aside",
    "not_number": "no finite number; converted, or the default taken and the original kept aside",
    "time_missing": "no time; that of the adoption was taken",
    "time_converted": "the time had another form, or more than microseconds; the original is kept aside",
    "time_unreadable": "no time; that of the adoption was taken, the original kept aside",
    # the file
    "source_in_use": "a process has the database open: what it writes from now on is not adopted",
    "source_damaged": "SQLite finds fault with the file; everything that can be read was adopted",
}
