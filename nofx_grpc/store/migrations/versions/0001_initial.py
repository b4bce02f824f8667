"""The first schema: the tables of the specification (docs/data-model.md) and the store's own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out here, not taken from the code: a migration stays as it is when the code moves on.
TEXT = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
AUTO = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EMPTY = sa.text("''")
NOW = sa.text("CURRENT_TIMESTAMP")
FALSE = sa.text("false")
TRUE = sa.text("true")


def upgrade() -> None:
    op.create_table(
        "audit_log",
        Column("id", AUTO, autoincrement=True, nullable=False),
        Column("at", TIME, server_default=NOW, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("role", TEXT, server_default=EMPTY, nullable=False),
        Column("method", TEXT, nullable=False),
        Column("peer", TEXT, server_default=EMPTY, nullable=False),
        Column("user_id", TEXT, server_default=EMPTY, nullable=False),
        Column("resources", TEXT, server_default=EMPTY, nullable=False),
        Column("outcome", TEXT, nullable=False),
        Column("reason", TEXT, server_default=EMPTY, nullable=False),
        Column("revision", sa.BigInteger(), nullable=True),
        Column("request_id", TEXT, server_default=EMPTY, nullable=False),
        Column("chain_id", TEXT, nullable=True),
        Column("chain_position", sa.BigInteger(), nullable=True),
        Column("mac", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "beta_codes",
        Column("code", TEXT, nullable=False),
        Column("used", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("used_by", TEXT, server_default=EMPTY, nullable=False),
        Column("used_at", TIME, nullable=True),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_beta_codes")),
    )
    op.create_index(
        op.f("ix_beta_codes_spent"),
        "beta_codes",
        ["code"],
        unique=False,
        sqlite_where=sa.text("used = 1"),
        postgresql_where=sa.text("used"),
    )
    op.create_table(
        "change_log",
        Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        Column("kind", TEXT, nullable=False),
        Column("user_id", TEXT, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("operation", TEXT, nullable=False),
        Column("resource", TEXT, server_default=EMPTY, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("revision", "ordinal", name=op.f("pk_change_log")),
    )
    op.create_table(
        "keyring",
        Column("id", TEXT, nullable=False),
        Column("purpose", TEXT, nullable=False),
        Column("state", TEXT, nullable=False),
        Column("algorithm", TEXT, nullable=False),
        Column("wrapped", TEXT, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keyring")),
    )
    op.create_table(
        "master_key",
        Column("id", sa.Integer(), autoincrement=False, nullable=False),
        Column("salt", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_master_key")),
    )
    op.create_table(
        "request_ids",
        Column("principal", TEXT, nullable=False),
        Column("request_id", TEXT, nullable=False),
        Column("method", TEXT, nullable=False),
        Column("answer", sa.LargeBinary(), nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("principal", "request_id", name=op.f("pk_request_ids")),
    )
    op.create_index(op.f("ix_request_ids_created_at"), "request_ids", ["created_at"], unique=False)
    op.create_table(
        "set_aside",
        Column("id", AUTO, autoincrement=True, nullable=False),
        Column("source_table", TEXT, nullable=False),
        Column("source_key", TEXT, nullable=False),
        Column("code", TEXT, nullable=False),
        Column("detail", TEXT, server_default=EMPTY, nullable=False),
        Column("content", TEXT, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_set_aside")),
    )
    op.create_table(
        "spent_login_tokens",
        Column("id", TEXT, nullable=False),
        Column("expires_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spent_login_tokens")),
    )
    op.create_index(op.f("ix_spent_login_tokens_expires_at"), "spent_login_tokens", ["expires_at"], unique=False)
    op.create_table(
        "store_state",
        Column("id", sa.Integer(), autoincrement=False, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("compacted_revision", sa.BigInteger(), nullable=False),
        Column("history_id", TEXT, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_state")),
    )
    op.create_table(
        "system_config",
        Column("key", TEXT, nullable=False),
        Column("value", TEXT, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("rewrites", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_system_config")),
    )
    op.create_table(
        "tokens",
        Column("id", TEXT, nullable=False),
        Column("hash", TEXT, nullable=False),
        Column("display_name", TEXT, server_default=EMPTY, nullable=False),
        Column("role", TEXT, nullable=False),
        Column("user_id", TEXT, server_default=EMPTY, nullable=False),
        Column("reveal", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("reveal_system", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("bootstrap", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("expires_at", TIME, nullable=True),
        Column("revoked_at", TIME, nullable=True),
        Column("last_used_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_table(
        "users",
        Column("id", TEXT, nullable=False),
        Column("email", TEXT, nullable=False),
        Column("password_hash", TEXT, server_default=EMPTY, nullable=False),
        Column("otp_secret", TEXT, server_default=EMPTY, nullable=False),
        Column("otp_verified", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("email_key", TEXT, nullable=False),
        Column("otp_last_step", sa.BigInteger(), nullable=True),
        Column("registration_expires_at", TIME, nullable=True),
        Column("registration_code", TEXT, server_default=EMPTY, nullable=False),
        Column("rewrites", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("email_key", name=op.f("uq_users_email_key")),
    )
    op.create_index(op.f("ix_users_registration_expires_at"), "users", ["registration_expires_at"], unique=False)
    op.create_table(
        "ai_models",
        Column("id", TEXT, nullable=False),
        Column("user_id", TEXT, server_default=sa.text("'default'"), nullable=False),
        Column("name", TEXT, nullable=False),
        Column("provider", TEXT, nullable=False),
        Column("enabled", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("api_key", TEXT, server_default=EMPTY, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("custom_api_url", TEXT, server_default=EMPTY, nullable=False),
        Column("custom_model_name", TEXT, server_default=EMPTY, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("rewrites", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_ai_models_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ai_models")),
        sa.UniqueConstraint("id", "user_id", name=op.f("uq_ai_models_id_user_id")),
    )
    op.create_index(op.f("ix_ai_models_user_id_id"), "ai_models", ["user_id", "id"], unique=False)
    op.create_table(
        "exchanges",
        Column("id", TEXT, nullable=False),
        Column("user_id", TEXT, server_default=sa.text("'default'"), nullable=False),
        Column("name", TEXT, nullable=False),
        Column("type", TEXT, nullable=False),
        Column("enabled", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("api_key", TEXT, server_default=EMPTY, nullable=False),
        Column("secret_key", TEXT, server_default=EMPTY, nullable=False),
        Column("testnet", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("hyperliquid_wallet_addr", TEXT, server_default=EMPTY, nullable=False),
        Column("aster_user", TEXT, server_default=EMPTY, nullable=False),
        Column("aster_signer", TEXT, server_default=EMPTY, nullable=False),
        Column("aster_private_key", TEXT, server_default=EMPTY, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("rewrites", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_exchanges_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", "user_id", name=op.f("pk_exchanges")),
    )
    op.create_index(op.f("ix_exchanges_user_id_id"), "exchanges", ["user_id", "id"], unique=False)
    op.create_table(
        "user_signal_sources",
        Column("id", sa.Integer(), autoincrement=True, nullable=False),
        Column("user_id", TEXT, nullable=False),
        Column("coin_pool_url", TEXT, server_default=EMPTY, nullable=False),
        Column("oi_top_url", TEXT, server_default=EMPTY, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        Column("rewrites", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_signal_sources_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_signal_sources")),
        sa.UniqueConstraint("user_id", name=op.f("uq_user_signal_sources_user_id")),
    )
    op.create_table(
        "traders",
        Column("id", TEXT, nullable=False),
        Column("user_id", TEXT, server_default=sa.text("'default'"), nullable=False),
        Column("name", TEXT, nullable=False),
        Column("ai_model_id", TEXT, nullable=False),
        Column("exchange_id", TEXT, nullable=False),
        Column("initial_balance", sa.Double(), nullable=False),
        Column("scan_interval_minutes", sa.Integer(), server_default=sa.text("3"), nullable=False),
        Column("is_running", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("btc_eth_leverage", sa.Integer(), server_default=sa.text("5"), nullable=False),
        Column("altcoin_leverage", sa.Integer(), server_default=sa.text("5"), nullable=False),
        Column("trading_symbols", TEXT, server_default=EMPTY, nullable=False),
        Column("use_coin_pool", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("use_oi_top", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("created_at", TIME, server_default=NOW, nullable=False),
        Column("updated_at", TIME, server_default=NOW, nullable=False),
        Column("custom_prompt", TEXT, server_default=EMPTY, nullable=False),
        Column("override_base_prompt", sa.Boolean(), server_default=FALSE, nullable=False),
        Column("is_cross_margin", sa.Boolean(), server_default=TRUE, nullable=False),
        Column("use_default_coins", sa.Boolean(), server_default=TRUE, nullable=False),
        Column("custom_coins", TEXT, server_default=EMPTY, nullable=False),
        Column("system_prompt_template", TEXT, server_default=sa.text("'default'"), nullable=False),
        Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["ai_model_id", "user_id"],
            ["ai_models.id", "ai_models.user_id"],
            name=op.f("fk_traders_ai_model_id_user_id"),
        ),
        sa.ForeignKeyConstraint(
            ["exchange_id", "user_id"],
            ["exchanges.id", "exchanges.user_id"],
            name=op.f("fk_traders_exchange_id_user_id"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_traders_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_traders")),
    )
    op.create_index(op.f("ix_traders_ai_model_id_user_id"), "traders", ["ai_model_id", "user_id"], unique=False)
    op.create_index(op.f("ix_traders_exchange_id_user_id"), "traders", ["exchange_id", "user_id"], unique=False)
    op.create_index(op.f("ix_traders_user_id_id"), "traders", ["user_id", "id"], unique=False)
