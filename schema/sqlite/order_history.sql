-- The order history in SQLite: the whole current schema. A new store is made from this file; an older one is brought here by
-- the numbered steps in order_history/, which end in the same schema.
--
-- All rows follow from the ledger alone: no clock, no counter of the store's own, nothing read before it is written.
-- Times are microseconds since 1970-01-01T00:00:00Z. Enums are the numbers of ordertape.v1.

CREATE TABLE schema_version (
    version INTEGER NOT NULL
) STRICT;

INSERT INTO schema_version VALUES (1);

-- How far which ledger has been applied: one row, written in the transaction of what it speaks of.
CREATE TABLE checkpoint (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    hash      BLOB    NOT NULL -- SHA-256 of the batch that ends at sequence
) STRICT;

-- Every update of every order, once: an order's timeline, a user's updates and a user's fills are indexes on it (each ends
-- with the sequence by itself, since that is the row's number).
CREATE TABLE updates (
    sequence  INTEGER PRIMARY KEY,
    batch_end INTEGER NOT NULL, -- last sequence of the batch that the update is part of
    order_id  INTEGER NOT NULL,
    user_id   TEXT    NOT NULL,
    symbol    TEXT    NOT NULL,
    exec_type INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    message   BLOB    NOT NULL  -- the serialized OrderUpdate
) STRICT;

CREATE INDEX updates_by_order ON updates (order_id);
CREATE INDEX updates_by_user ON updates (user_id);
CREATE INDEX fills_by_user ON updates (user_id) WHERE exec_type = 3; -- EXEC_TYPE_TRADE

-- The newest update of each open order: read at a start only.
CREATE TABLE active_orders (
    order_id INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

-- Every order that ended, rejected ones too, written once, when it ends; sequence is that of its last update.
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
