-- Step 1: the first schema. A step never changes once it was released; order_history.sql says what the tables are for.

CREATE TABLE schema_version (
    version INTEGER NOT NULL
) STRICT;

INSERT INTO schema_version VALUES (1);

CREATE TABLE checkpoint (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    hash      BLOB    NOT NULL
) STRICT;

CREATE TABLE updates (
    sequence  INTEGER PRIMARY KEY,
    batch_end INTEGER NOT NULL,
    order_id  INTEGER NOT NULL,
    user_id   TEXT    NOT NULL,
    symbol    TEXT    NOT NULL,
    exec_type INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    message   BLOB    NOT NULL
) STRICT;

CREATE INDEX updates_by_order ON updates (order_id);
CREATE INDEX updates_by_user ON updates (user_id);
CREATE INDEX fills_by_user ON updates (user_id) WHERE exec_type = 3;

CREATE TABLE active_orders (
    order_id INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

CREATE TABLE order_history (
    user_id    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    order_id   INTEGER NOT NULL,
    symbol     TEXT    NOT NULL,
    side       INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    PRIMARY KEY (user_id, created_at, order_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX order_history_by_symbol ON order_history (user_id, symbol, created_at, order_id);

CREATE TABLE orders_by_client_id (
    user_id         TEXT    NOT NULL,
    client_order_id TEXT    NOT NULL,
    order_id        INTEGER NOT NULL,
    PRIMARY KEY (user_id, client_order_id)
) STRICT, WITHOUT ROWID;
