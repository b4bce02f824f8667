BEGIN TRANSACTION;
CREATE TABLE ai_models (
	id TEXT NOT NULL, 
	user_id TEXT DEFAULT 'default' NOT NULL, 
	name TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	enabled BOOLEAN DEFAULT false NOT NULL, 
	api_key TEXT DEFAULT '' NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	custom_api_url TEXT DEFAULT '' NOT NULL, 
	custom_model_name TEXT DEFAULT '' NOT NULL, 
	revision BIGINT NOT NULL, 
	rewrites INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_ai_models PRIMARY KEY (id), 
	CONSTRAINT fk_ai_models_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_ai_models_id_user_id UNIQUE (id, user_id)
);
INSERT INTO "ai_models" VALUES('deepseek','default','DeepSeek','deepseek',0,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901','','',1,0);
INSERT INTO "ai_models" VALUES('qwen','default','Qwen','qwen',0,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901','','',1,0);
INSERT INTO "ai_models" VALUES('ada_qwen','ada','Qwen','qwen',0,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901','','',2,0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0012');
CREATE TABLE audit_anchors (
	chain_id TEXT NOT NULL, 
	position BIGINT NOT NULL, 
	mac BLOB NOT NULL, 
	pruned_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	seal BLOB NOT NULL, 
	CONSTRAINT pk_audit_anchors PRIMARY KEY (chain_id)
);
CREATE TABLE "audit_log" (
	chain_id TEXT NOT NULL, 
	chain_position BIGINT NOT NULL, 
	at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	principal TEXT NOT NULL, 
	role TEXT DEFAULT '' NOT NULL, 
	method TEXT NOT NULL, 
	peer TEXT DEFAULT '' NOT NULL, 
	user_id TEXT DEFAULT '' NOT NULL, 
	resources TEXT DEFAULT '' NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	revision BIGINT, 
	request_id TEXT DEFAULT '' NOT NULL, 
	mac BLOB NOT NULL, 
	CONSTRAINT pk_audit_log PRIMARY KEY (chain_id, chain_position)
);
INSERT INTO "audit_log" VALUES('20260102T030405Z-2783e3873a61',1,'2026-01-02 03:04:05.678901','token:golden','admin','/golden.Golden/Fill','local','ada','create user ada/ada; create model ada/ada_qwen; create exchange ada/binance; create trader ada/t1','OK','',2,'',X'A181B3412D73587645476812CFD9052F62EF68BCFC3FC3E665DBE73FDA893A9F');
CREATE TABLE beta_codes (
	code TEXT NOT NULL, 
	used BOOLEAN DEFAULT false NOT NULL, 
	used_by TEXT DEFAULT '' NOT NULL, 
	used_at TEXT, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	revision BIGINT NOT NULL, 
	CONSTRAINT pk_beta_codes PRIMARY KEY (code)
);
CREATE TABLE change_log (
	revision BIGINT NOT NULL, 
	ordinal INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	user_id TEXT NOT NULL, 
	id TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	resource TEXT DEFAULT '' NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_change_log PRIMARY KEY (revision, ordinal)
);
INSERT INTO "change_log" VALUES(2,1,'user','ada','ada','create','{"id":"ada","email":"ada@example.com","password_hash":"","otp_secret":"","otp_verified":false,"created_at":"2026-01-02T03:04:05.678901+00:00","updated_at":"2026-01-02T03:04:05.678901+00:00","revision":2,"email_key":"ada@example.com","registration_expires_at":null,"registration_code":""}','2026-01-02 03:04:05.678901');
INSERT INTO "change_log" VALUES(2,2,'model','ada','ada_qwen','create','{"id":"ada_qwen","user_id":"ada","name":"Qwen","provider":"qwen","enabled":false,"api_key":"","created_at":"2026-01-02T03:04:05.678901+00:00","updated_at":"2026-01-02T03:04:05.678901+00:00","custom_api_url":"","custom_model_name":"","revision":2}','2026-01-02 03:04:05.678901');
INSERT INTO "change_log" VALUES(2,3,'exchange','ada','binance','create','{"id":"binance","user_id":"ada","name":"Binance","type":"cex","enabled":false,"api_key":"nofx1:ee04666f:891c5913:","secret_key":"","testnet":false,"hyperliquid_wallet_addr":"","aster_user":"","aster_signer":"","aster_private_key":"","created_at":"2026-01-02T03:04:05.678901+00:00","updated_at":"2026-01-02T03:04:05.678901+00:00","revision":2}','2026-01-02 03:04:05.678901');
INSERT INTO "change_log" VALUES(2,4,'trader','ada','t1','create','{"id":"t1","user_id":"ada","name":"Trader","ai_model_id":"ada_qwen","exchange_id":"binance","initial_balance":1.0,"scan_interval_minutes":1,"is_running":false,"btc_eth_leverage":1,"altcoin_leverage":1,"trading_symbols":"","use_coin_pool":false,"use_oi_top":false,"created_at":"2026-01-02T03:04:05.678901+00:00","updated_at":"2026-01-02T03:04:05.678901+00:00","custom_prompt":"","override_base_prompt":false,"is_cross_margin":false,"use_default_coins":false,"custom_coins":"","system_prompt_template":"","revision":2}','2026-01-02 03:04:05.678901');
CREATE TABLE database_timeline (
	id INTEGER NOT NULL, 
	timeline TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_database_timeline PRIMARY KEY (id)
);
INSERT INTO "database_timeline" VALUES(1,'');
CREATE TABLE decision_bodies (
	log_id BIGINT NOT NULL, 
	id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	CONSTRAINT pk_decision_bodies PRIMARY KEY (log_id, id), 
	CONSTRAINT fk_decision_bodies_log_id_id FOREIGN KEY(log_id, id) REFERENCES decisions (log_id, id) ON DELETE CASCADE
);
CREATE TABLE decision_logs (
	id INTEGER NOT NULL, 
	trader_id TEXT NOT NULL, 
	user_id TEXT DEFAULT '' NOT NULL, 
	folder TEXT NOT NULL, 
	folded_folder TEXT NOT NULL, 
	last_cycle BIGINT DEFAULT 0 NOT NULL, 
	last_serial BIGINT DEFAULT 0 NOT NULL, 
	total_cycles BIGINT DEFAULT 0 NOT NULL, 
	successful_cycles BIGINT DEFAULT 0 NOT NULL, 
	opens BIGINT DEFAULT 0 NOT NULL, 
	closes BIGINT DEFAULT 0 NOT NULL, 
	partial_closes BIGINT DEFAULT 0 NOT NULL, 
	size_bytes BIGINT DEFAULT 0 NOT NULL, unsettled TEXT, pruned TEXT, 
	CONSTRAINT pk_decision_logs PRIMARY KEY (id), 
	CONSTRAINT uq_decision_logs_folder UNIQUE (folder), 
	CONSTRAINT uq_decision_logs_trader_id UNIQUE (trader_id)
);
CREATE TABLE decisions (
	log_id BIGINT NOT NULL, 
	id TEXT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	serial BIGINT NOT NULL, 
	cycle_number BIGINT NOT NULL, 
	success BOOLEAN NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	total_balance DOUBLE NOT NULL, 
	unrealized_profit DOUBLE NOT NULL, 
	trades TEXT, 
	legs TEXT, 
	CONSTRAINT pk_decisions PRIMARY KEY (log_id, id), 
	CONSTRAINT fk_decisions_log_id FOREIGN KEY(log_id) REFERENCES decision_logs (id)
)
 WITHOUT ROWID

;
CREATE TABLE exchanges (
	id TEXT NOT NULL, 
	user_id TEXT DEFAULT 'default' NOT NULL, 
	name TEXT NOT NULL, 
	type TEXT NOT NULL, 
	enabled BOOLEAN DEFAULT false NOT NULL, 
	api_key TEXT DEFAULT '' NOT NULL, 
	secret_key TEXT DEFAULT '' NOT NULL, 
	testnet BOOLEAN DEFAULT false NOT NULL, 
	hyperliquid_wallet_addr TEXT DEFAULT '' NOT NULL, 
	aster_user TEXT DEFAULT '' NOT NULL, 
	aster_signer TEXT DEFAULT '' NOT NULL, 
	aster_private_key TEXT DEFAULT '' NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	revision BIGINT NOT NULL, 
	rewrites INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_exchanges PRIMARY KEY (id, user_id), 
	CONSTRAINT fk_exchanges_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "exchanges" VALUES('binance','default','Binance Futures','binance',0,'','',0,'','','','','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',1,0);
INSERT INTO "exchanges" VALUES('hyperliquid','default','Hyperliquid','hyperliquid',0,'','',0,'','','','','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',1,0);
INSERT INTO "exchanges" VALUES('aster','default','Aster DEX','aster',0,'','',0,'','','','','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',1,0);
INSERT INTO "exchanges" VALUES('binance','ada','Binance','cex',0,'nofx1:ee04666f:891c5913:5ST839XNdwRx_vMRRdbIG6jYAq-Y8Pb0CmH0tWEUTOCDzW7MoQpJpe8i','',0,'','','','','2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',2,0);
CREATE TABLE keyring (
	id TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	state TEXT NOT NULL, 
	algorithm TEXT NOT NULL, 
	wrapped TEXT NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_keyring PRIMARY KEY (id)
);
INSERT INTO "keyring" VALUES('ee04666f','data','primary','aes-256-gcm','UJ8-wVLov3evcGYTCYUcO20tkV-WgxTbxW-q3t90_hyKSE7M3KAWP-LJgjwM6dsll6epWXzowdEJBtsD','2026-01-02 03:04:05.678901');
INSERT INTO "keyring" VALUES('2c018e02','fingerprint','primary','hmac-sha-256','-6u8ux52WpO_cbx7hwszSCZMUpRYbIiZwJNe5arnooTy8CgpT3DJvkccF0NU53pBtM8SA74MKbeRTGcP','2026-01-02 03:04:05.678901');
INSERT INTO "keyring" VALUES('dc9da0ce','audit','primary','hmac-sha-256','xFoN098POgiecGwqp1PFOQSp2DX3P31EYf0syNyBEyhNpuL9xQUkbdw-chCKB4MgvSdSTDN-obz3uKJY','2026-01-02 03:04:05.678901');
CREATE TABLE known_callers (
	id TEXT NOT NULL, 
	forgotten_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_known_callers PRIMARY KEY (id)
);
CREATE TABLE login_tries (
	id TEXT NOT NULL, 
	forgotten_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	blocked_until TEXT, 
	CONSTRAINT pk_login_tries PRIMARY KEY (id)
);
CREATE TABLE master_key (
	id INTEGER NOT NULL, 
	salt BLOB NOT NULL, 
	CONSTRAINT pk_master_key PRIMARY KEY (id)
);
INSERT INTO "master_key" VALUES(1,X'195A1E269DEC2D8E508530D971017323');
CREATE TABLE processes (
	id TEXT NOT NULL, 
	checked_in_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	held_revision BIGINT, 
	keeps_house BOOLEAN DEFAULT false NOT NULL, 
	CONSTRAINT pk_processes PRIMARY KEY (id)
);
CREATE TABLE removed_decisions (
	log_id BIGINT NOT NULL, 
	id TEXT NOT NULL, 
	removed_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_removed_decisions PRIMARY KEY (log_id, id), 
	CONSTRAINT fk_removed_decisions_log_id FOREIGN KEY(log_id) REFERENCES decision_logs (id)
);
CREATE TABLE request_ids (
	principal TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	method TEXT NOT NULL, 
	answer BLOB NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_request_ids PRIMARY KEY (principal, request_id)
);
CREATE TABLE set_aside (
	id INTEGER NOT NULL, 
	source_table TEXT NOT NULL, 
	source_key TEXT NOT NULL, 
	code TEXT NOT NULL, 
	detail TEXT DEFAULT '' NOT NULL, 
	content TEXT NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_set_aside PRIMARY KEY (id)
);
CREATE TABLE spent_login_tokens (
	id TEXT NOT NULL, 
	expires_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_spent_login_tokens PRIMARY KEY (id)
);
CREATE TABLE store_state (
	id INTEGER NOT NULL, 
	revision BIGINT NOT NULL, 
	compacted_revision BIGINT NOT NULL, 
	history_id TEXT NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, keyring_version BIGINT DEFAULT 0 NOT NULL, oldest_schema TEXT DEFAULT '' NOT NULL, decision_logs_id TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_store_state PRIMARY KEY (id)
);
INSERT INTO "store_state" VALUES(1,2,1,'c6e88793-0f00-4f0e-9f96-b0d193821899','2026-01-02 03:04:05.678901',0,'0009','');
CREATE TABLE system_config (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	revision BIGINT NOT NULL, 
	rewrites INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_system_config PRIMARY KEY ("key")
);
INSERT INTO "system_config" VALUES('beta_mode','false','2026-01-02 03:04:05.678901',1,0);
CREATE TABLE tokens (
	id TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	display_name TEXT DEFAULT '' NOT NULL, 
	role TEXT NOT NULL, 
	user_id TEXT DEFAULT '' NOT NULL, 
	reveal BOOLEAN DEFAULT false NOT NULL, 
	reveal_system BOOLEAN DEFAULT false NOT NULL, 
	bootstrap BOOLEAN DEFAULT false NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	expires_at TEXT, 
	revoked_at TEXT, 
	last_used_at TEXT, 
	CONSTRAINT pk_tokens PRIMARY KEY (id), 
	CONSTRAINT uq_tokens_hash UNIQUE (hash)
);
CREATE TABLE traders (
	id TEXT NOT NULL, 
	user_id TEXT DEFAULT 'default' NOT NULL, 
	name TEXT NOT NULL, 
	ai_model_id TEXT NOT NULL, 
	exchange_id TEXT NOT NULL, 
	initial_balance DOUBLE NOT NULL, 
	scan_interval_minutes INTEGER DEFAULT 3 NOT NULL, 
	is_running BOOLEAN DEFAULT false NOT NULL, 
	btc_eth_leverage INTEGER DEFAULT 5 NOT NULL, 
	altcoin_leverage INTEGER DEFAULT 5 NOT NULL, 
	trading_symbols TEXT DEFAULT '' NOT NULL, 
	use_coin_pool BOOLEAN DEFAULT false NOT NULL, 
	use_oi_top BOOLEAN DEFAULT false NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	custom_prompt TEXT DEFAULT '' NOT NULL, 
	override_base_prompt BOOLEAN DEFAULT false NOT NULL, 
	is_cross_margin BOOLEAN DEFAULT true NOT NULL, 
	use_default_coins BOOLEAN DEFAULT true NOT NULL, 
	custom_coins TEXT DEFAULT '' NOT NULL, 
	system_prompt_template TEXT DEFAULT 'default' NOT NULL, 
	revision BIGINT NOT NULL, 
	CONSTRAINT pk_traders PRIMARY KEY (id), 
	CONSTRAINT fk_traders_ai_model_id_user_id FOREIGN KEY(ai_model_id, user_id) REFERENCES ai_models (id, user_id), 
	CONSTRAINT fk_traders_exchange_id_user_id FOREIGN KEY(exchange_id, user_id) REFERENCES exchanges (id, user_id), 
	CONSTRAINT fk_traders_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "traders" VALUES('t1','ada','Trader','ada_qwen','binance',1.0,1,0,1,1,'',0,0,'2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901','',0,0,0,'','',2);
CREATE TABLE unreadable_decisions (
	log_id BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_unreadable_decisions PRIMARY KEY (log_id, name), 
	CONSTRAINT fk_unreadable_decisions_log_id FOREIGN KEY(log_id) REFERENCES decision_logs (id)
);
CREATE TABLE user_signal_sources (
	id INTEGER NOT NULL, 
	user_id TEXT NOT NULL, 
	coin_pool_url TEXT DEFAULT '' NOT NULL, 
	oi_top_url TEXT DEFAULT '' NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	revision BIGINT NOT NULL, 
	rewrites INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_user_signal_sources PRIMARY KEY (id), 
	CONSTRAINT fk_user_signal_sources_user_id FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_user_signal_sources_user_id UNIQUE (user_id)
);
CREATE TABLE users (
	id TEXT NOT NULL, 
	email TEXT NOT NULL, 
	password_hash TEXT DEFAULT '' NOT NULL, 
	otp_secret TEXT DEFAULT '' NOT NULL, 
	otp_verified BOOLEAN DEFAULT false NOT NULL, 
	created_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at TEXT DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	revision BIGINT NOT NULL, 
	email_key TEXT NOT NULL, 
	otp_last_step BIGINT, 
	registration_expires_at TEXT, 
	registration_code TEXT DEFAULT '' NOT NULL, 
	rewrites INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_email UNIQUE (email), 
	CONSTRAINT uq_users_email_key UNIQUE (email_key)
);
INSERT INTO "users" VALUES('default','default@localhost','','',0,'2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',1,'default@localhost',NULL,NULL,'',0);
INSERT INTO "users" VALUES('ada','ada@example.com','','',0,'2026-01-02 03:04:05.678901','2026-01-02 03:04:05.678901',2,'ada@example.com',NULL,NULL,'',0);
CREATE INDEX ix_beta_codes_spent ON beta_codes (code) WHERE used = 1;
CREATE INDEX ix_request_ids_created_at ON request_ids (created_at);
CREATE INDEX ix_spent_login_tokens_expires_at ON spent_login_tokens (expires_at);
CREATE INDEX ix_users_registration_expires_at ON users (registration_expires_at);
CREATE INDEX ix_ai_models_user_id_id ON ai_models (user_id, id);
CREATE INDEX ix_exchanges_user_id_id ON exchanges (user_id, id);
CREATE INDEX ix_traders_ai_model_id_user_id ON traders (ai_model_id, user_id);
CREATE INDEX ix_traders_exchange_id_user_id ON traders (exchange_id, user_id);
CREATE INDEX ix_traders_user_id_id ON traders (user_id, id);
CREATE INDEX ix_audit_log_at ON audit_log (at);
CREATE INDEX ix_audit_log_principal_at ON audit_log (principal, at);
CREATE INDEX ix_audit_log_method_at ON audit_log (method, at);
CREATE INDEX ix_audit_log_user_id_at ON audit_log (user_id, at);
CREATE INDEX ix_audit_log_outcome_at ON audit_log (outcome, at) WHERE outcome <> 'OK';
CREATE INDEX ix_decision_logs_folded_folder ON decision_logs (folded_folder);
CREATE INDEX ix_decision_logs_user_id ON decision_logs (user_id);
CREATE INDEX ix_decisions_time ON decisions (log_id, time_ns, id);
CREATE UNIQUE INDEX ix_decisions_serial ON decisions (log_id, serial);
CREATE INDEX ix_decisions_trades ON decisions (log_id, time_ns, id) WHERE trades IS NOT NULL;
CREATE INDEX ix_login_tries_forgotten_at ON login_tries (forgotten_at);
CREATE INDEX ix_known_callers_forgotten_at ON known_callers (forgotten_at);
CREATE INDEX ix_removed_decisions_removed_at_log_id ON removed_decisions (removed_at, log_id);
CREATE TRIGGER update_users_updated_at AFTER UPDATE ON users WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision AND NEW.rewrites = OLD.rewrites BEGIN UPDATE users SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
CREATE TRIGGER update_ai_models_updated_at AFTER UPDATE ON ai_models WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision AND NEW.rewrites = OLD.rewrites BEGIN UPDATE ai_models SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
CREATE TRIGGER update_exchanges_updated_at AFTER UPDATE ON exchanges WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision AND NEW.rewrites = OLD.rewrites BEGIN UPDATE exchanges SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id AND user_id = NEW.user_id; END;
CREATE TRIGGER update_user_signal_sources_updated_at AFTER UPDATE ON user_signal_sources WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision AND NEW.rewrites = OLD.rewrites BEGIN UPDATE user_signal_sources SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
CREATE TRIGGER update_traders_updated_at AFTER UPDATE ON traders WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision BEGIN UPDATE traders SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
CREATE TRIGGER update_system_config_updated_at AFTER UPDATE ON system_config WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision AND NEW.rewrites = OLD.rewrites BEGIN UPDATE system_config SET updated_at = CURRENT_TIMESTAMP WHERE key = NEW.key; END;
CREATE TRIGGER update_beta_codes_updated_at AFTER UPDATE ON beta_codes WHEN NEW.updated_at IS OLD.updated_at AND NEW.revision = OLD.revision BEGIN UPDATE beta_codes SET updated_at = CURRENT_TIMESTAMP WHERE code = NEW.code; END;
COMMIT;
