-- The first schema, for SQLite. Its twin for Postgres lies in ../postgres; a test holds the two together.
-- Times are milliseconds since 1970 (`_ms`), but for `lease_until`, which is lease time. JSON is opaque to SQL.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE counter (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('profile', 0);

CREATE TABLE sealed_key (
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    sealed TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, number)
) STRICT;

-- The only place where the warehouse's ids are kept.
CREATE TABLE profile (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE erased (
    id_hash TEXT NOT NULL PRIMARY KEY,
    erased_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE segment (
    name TEXT NOT NULL PRIMARY KEY,
    run_id TEXT,
    definition TEXT,
    as_of_ms INTEGER,
    members_bits BLOB,
    good_runs INTEGER NOT NULL,
    last_due_ms INTEGER
) STRICT;

CREATE TABLE segment_run (
    id TEXT NOT NULL PRIMARY KEY,
    segment TEXT NOT NULL,
    definition TEXT NOT NULL,
    as_of_ms INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    good_n INTEGER,
    members INTEGER NOT NULL,
    entered INTEGER NOT NULL,
    leavers INTEGER NOT NULL,
    rows_read INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    missing_ids INTEGER NOT NULL,
    held_reason TEXT,
    held_saw TEXT,
    entered_bits BLOB NOT NULL,
    leavers_bits BLOB NOT NULL,
    members_bits BLOB
) STRICT;
CREATE INDEX segment_run_good ON segment_run (segment, good_n);
CREATE INDEX segment_run_time ON segment_run (segment, as_of_ms, recorded_at_ms);

CREATE TABLE playbook (
    name TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'archived')),
    version TEXT NOT NULL,
    activated_at_ms INTEGER NOT NULL,
    seen_bits BLOB NOT NULL,
    applied_run TEXT,
    applying_run TEXT,
    applying_after INTEGER
) STRICT;

CREATE TABLE playbook_version (
    playbook TEXT NOT NULL,
    version TEXT NOT NULL,
    bundle TEXT NOT NULL,
    saved_at_ms INTEGER NOT NULL,
    PRIMARY KEY (playbook, version)
) STRICT;

CREATE TABLE entering (
    playbook TEXT NOT NULL,
    profile INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (playbook, profile)
) STRICT;

-- Rows lie by person: a page of people, in order of number, is a page of the table and of its indexes.
CREATE TABLE enrollment (
    profile INTEGER NOT NULL,
    id TEXT NOT NULL,
    playbook TEXT NOT NULL,
    version TEXT NOT NULL,
    entered_by TEXT NOT NULL,
    entered_at_ms INTEGER NOT NULL,
    holdout TEXT,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'ended')),
    step TEXT,
    since_ms INTEGER,
    look_at_ms INTEGER,
    exit TEXT,
    ended_at_ms INTEGER,
    goal_reached_at_ms INTEGER,
    outcomes TEXT NOT NULL,
    sealed_entry TEXT,
    PRIMARY KEY (profile, id)
) STRICT;
CREATE UNIQUE INDEX enrollment_active ON enrollment (playbook, profile) WHERE state <> 'ended';
CREATE INDEX enrollment_due ON enrollment (playbook, look_at_ms, profile) WHERE look_at_ms IS NOT NULL;

CREATE TABLE delivery (
    profile INTEGER NOT NULL,
    id TEXT NOT NULL,
    enrollment TEXT NOT NULL,
    version TEXT NOT NULL,
    step TEXT NOT NULL,
    channel TEXT NOT NULL,
    class TEXT NOT NULL,
    purpose TEXT NOT NULL,
    brand TEXT NOT NULL,
    playbook TEXT NOT NULL,
    destination TEXT NOT NULL,
    template TEXT NOT NULL,
    priority INTEGER NOT NULL,
    claim_rank INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'deferred', 'leased', 'armed', 'accepted', 'rejected', 'in_doubt',
        'withheld', 'suppressed', 'skipped', 'expired', 'cancelled')),
    reason TEXT NOT NULL,
    gates TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    decided_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    armed_at_ms INTEGER,
    settled_at_ms INTEGER,
    receipt TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    node TEXT,
    lease_until INTEGER,
    lease_count INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (profile, id)
) STRICT;
CREATE INDEX delivery_claim ON delivery (destination, claim_rank, due_at_ms, profile, id) WHERE state = 'pending';
CREATE INDEX delivery_leased ON delivery (lease_until) WHERE state = 'leased';
CREATE INDEX delivery_open ON delivery (state, created_at_ms) WHERE state IN ('armed', 'in_doubt');
CREATE INDEX delivery_log ON delivery (created_at_ms, profile, id);

CREATE TABLE attempt (
    delivery TEXT NOT NULL,
    n INTEGER NOT NULL,
    profile INTEGER NOT NULL,
    address_hash TEXT NOT NULL,
    armed_at_ms INTEGER NOT NULL,
    outcome TEXT CHECK (outcome IN ('accepted', 'rejected', 'retry', 'in_doubt', 'resent')),
    detail TEXT NOT NULL DEFAULT '',
    finished_at_ms INTEGER,
    PRIMARY KEY (delivery, n)
) STRICT;
CREATE UNIQUE INDEX attempt_open ON attempt (delivery) WHERE outcome IS NULL;

-- `*` is every channel, every purpose.
CREATE TABLE consent_event (
    number INTEGER NOT NULL PRIMARY KEY,
    profile INTEGER NOT NULL,
    channel TEXT NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('granted', 'withdrawn', 'pending')),
    changed_at_ms INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('local', 'warehouse')),
    source TEXT NOT NULL,
    evidence TEXT,
    UNIQUE (profile, channel, purpose, status, changed_at_ms, origin, source)
) STRICT;

CREATE TABLE consent (
    profile INTEGER NOT NULL,
    channel TEXT NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (profile, channel, purpose)
) STRICT;

CREATE TABLE suppression (
    kind TEXT NOT NULL CHECK (kind IN ('profile', 'address')),
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    spares_transactional INTEGER NOT NULL,
    PRIMARY KEY (kind, subject, channel, reason)
) STRICT;

CREATE TABLE fact (
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    profile INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    delivery TEXT,
    PRIMARY KEY (source, source_id)
) STRICT;
CREATE INDEX fact_profile ON fact (profile, at_ms);

CREATE TABLE halt (
    scope TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- One row a transaction that wrote entries: one JSON text a line.
CREATE TABLE audit_batch (
    number INTEGER NOT NULL PRIMARY KEY,
    payload TEXT NOT NULL
) STRICT;

-- One row a batch that is in the tree: where, the hash of each leaf, and the root after it.
CREATE TABLE audit_seal (
    first_index INTEGER NOT NULL PRIMARY KEY,
    batch INTEGER NOT NULL UNIQUE,
    entries INTEGER NOT NULL,
    leaves BLOB NOT NULL,
    root BLOB NOT NULL
) STRICT;

CREATE TABLE audit_checkpoint (
    size INTEGER NOT NULL PRIMARY KEY,
    frontier BLOB NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TRIGGER audit_batch_update BEFORE UPDATE ON audit_batch BEGIN SELECT RAISE(ABORT, 'audit_batch is append-only'); END;
CREATE TRIGGER audit_batch_delete BEFORE DELETE ON audit_batch BEGIN SELECT RAISE(ABORT, 'audit_batch is append-only'); END;
CREATE TRIGGER audit_batch_replace BEFORE INSERT ON audit_batch WHEN EXISTS (SELECT 1 FROM audit_batch WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'audit_batch is append-only'); END;
CREATE TRIGGER audit_seal_update BEFORE UPDATE ON audit_seal BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;
CREATE TRIGGER audit_seal_delete BEFORE DELETE ON audit_seal BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;
CREATE TRIGGER audit_seal_replace BEFORE INSERT ON audit_seal
    WHEN EXISTS (SELECT 1 FROM audit_seal WHERE first_index = NEW.first_index OR batch = NEW.batch)
    BEGIN SELECT RAISE(ABORT, 'audit_seal is append-only'); END;
CREATE TRIGGER audit_checkpoint_update BEFORE UPDATE ON audit_checkpoint
    BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;
CREATE TRIGGER audit_checkpoint_delete BEFORE DELETE ON audit_checkpoint
    BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;
CREATE TRIGGER audit_checkpoint_replace BEFORE INSERT ON audit_checkpoint
    WHEN EXISTS (SELECT 1 FROM audit_checkpoint WHERE size = NEW.size)
    BEGIN SELECT RAISE(ABORT, 'audit_checkpoint is append-only'); END;
CREATE TRIGGER consent_event_update BEFORE UPDATE ON consent_event
    BEGIN SELECT RAISE(ABORT, 'consent_event is append-only'); END;
CREATE TRIGGER consent_event_delete BEFORE DELETE ON consent_event
    BEGIN SELECT RAISE(ABORT, 'consent_event is append-only'); END;
