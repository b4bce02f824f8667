"""What the schema itself refuses, whoever writes."""

import pytest
from sqlalchemy.exc import IntegrityError

from nofx_grpc.store.engine import Database
from tests.store.support import Store, create_all

REFUSED = {
    "a user's id twice": "INSERT INTO users (id, email, email_key, revision) VALUES ('ada', 'x', 'x', 9)",
    "an e-mail twice": "INSERT INTO users (id, email, email_key, revision) VALUES ('x', 'ada@example.com', 'x', 9)",
    "an e-mail in another case": "UPDATE users SET email_key = 'ada@example.com'",
    "a model of nobody": "INSERT INTO ai_models (id, user_id, name, provider, revision) VALUES ('x', 'no', '', '', 9)",
    "a model's id twice": "UPDATE ai_models SET id = 'ada_qwen' WHERE id = 'bob_qwen'",
    "an exchange of nobody": "INSERT INTO exchanges (id, user_id, name, type, revision) VALUES ('x', 'no', '', '', 9)",
    "an exchange twice": "UPDATE exchanges SET id = 'binance' WHERE user_id = 'default' AND id = 'aster'",
    "a signal source of nobody": "INSERT INTO user_signal_sources (user_id, revision) VALUES ('no', 9)",
    "a second signal source": "INSERT INTO user_signal_sources (user_id, revision) VALUES ('ada', 9)",
    "a trader twice": "INSERT INTO traders (id, user_id, name, ai_model_id, exchange_id, initial_balance, revision)"
    " VALUES ('t1', 'ada', '', 'ada_qwen', 'binance', 1, 9)",
    "a trader of nobody": "UPDATE traders SET user_id = 'no'",
    "a trader with a missing model": "UPDATE traders SET ai_model_id = 'no'",
    "a trader with another user's model": "UPDATE traders SET ai_model_id = 'bob_qwen'",
    "a trader with a missing exchange": "UPDATE traders SET exchange_id = 'no'",
    "a trader with another user's exchange": "UPDATE traders SET exchange_id = 'aster'",
    "to delete a model in use": "DELETE FROM ai_models WHERE id = 'ada_qwen'",
    "to delete an exchange in use": "DELETE FROM exchanges WHERE user_id = 'ada'",
    "a row without a revision": "INSERT INTO exchanges (id, user_id, name, type) VALUES ('x', 'ada', '', '')",
    "no text where text belongs": "UPDATE exchanges SET api_key = NULL",
    "a setting twice": "INSERT INTO system_config (key, value, revision) VALUES ('beta_mode', '', 9)",
    "a beta code twice": "INSERT INTO beta_codes (code, revision) VALUES ('BETA', 9)",
    "a token's hash twice": "INSERT INTO tokens (id, hash, role) VALUES ('x', 'hash', 'admin')",
    "a revision in the log twice": "INSERT INTO change_log (revision, ordinal, kind, user_id, id, operation)"
    " VALUES (2, 1, '', '', '', '')",
    "a second state of the store": "INSERT INTO store_state (id, revision, compacted_revision, history_id)"
    " VALUES (1, 1, 1, '')",
    "a request id twice": "INSERT INTO request_ids (principal, request_id, method, answer) VALUES ('p', 'r', '', '')",
    "a login token spent twice": "INSERT INTO spent_login_tokens (id) VALUES ('spent')",
}  # fmt: skip

MORE = (
    "INSERT INTO users (id, email, email_key, revision) VALUES ('bob', 'bob', 'bob', 2)",
    "INSERT INTO ai_models (id, user_id, name, provider, revision) VALUES ('bob_qwen', 'bob', '', '', 2)",
    "INSERT INTO exchanges (id, user_id, name, type, revision) VALUES ('aster', 'bob', '', '', 2)",
    "INSERT INTO user_signal_sources (user_id, revision) VALUES ('ada', 2)",
    "INSERT INTO beta_codes (code, revision) VALUES ('BETA', 2)",
    "INSERT INTO tokens (id, hash, role) VALUES ('t', 'hash', 'admin')",
    "INSERT INTO request_ids (principal, request_id, method, answer) VALUES ('p', 'r', '', '')",
    "INSERT INTO spent_login_tokens (id) VALUES ('spent')",
)


@pytest.fixture
async def filled(database: Database, store: Store) -> Store:
    await database.write(create_all)
    with store.outside() as connection:
        for sql in MORE:
            connection.exec_driver_sql(sql)
    return store


@pytest.mark.parametrize("what", REFUSED)
async def test_the_schema_refuses(filled: Store, what: str) -> None:
    with filled.outside() as connection, pytest.raises(IntegrityError):
        connection.exec_driver_sql(REFUSED[what])


async def test_other_users_may_have_an_exchange_of_the_same_id(filled: Store) -> None:
    with filled.outside() as connection:
        connection.exec_driver_sql(
            "INSERT INTO exchanges (id, user_id, name, type, revision) VALUES ('binance', 'bob', '', '', 9)"
        )


async def test_what_a_user_has_goes_with_the_user(filled: Store) -> None:
    """Only a backstop: the store deletes what belongs to a user row by row, and logs it."""
    with filled.outside() as connection:
        connection.exec_driver_sql("DELETE FROM users WHERE id = 'bob'")
        for table in ("ai_models", "exchanges"):
            left = connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE user_id = 'bob'").scalar_one()  # noqa: S608  # names of this file
            assert left == 0
