-- The first schema, for Postgres. Its twin for SQLite lies in ../sqlite; a test holds the two together.
-- Times are milliseconds since 1970 (`_ms`), but for `lease_until`, which is lease time. JSON is opaque to SQL.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE counter (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('profile', 0);

CREATE TABLE sealed_key (
    kind TEXT NOT NULL,
    number BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, number)
);

-- The only place where the warehouse's ids are kept.
CREATE TABLE profile (
    number BIGINT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
);

CREATE TABLE erased (
    id_hash TEXT NOT NULL PRIMARY KEY,
    erased_at_ms BIGINT NOT NULL
);

CREATE TABLE segment (
    name TEXT NOT NULL PRIMARY KEY,
    run_id TEXT,
    definition TEXT,
    as_of_ms BIGINT,
    members_bits BYTEA,
    good_runs BIGINT NOT NULL,
    last_due_ms BIGINT
);

CREATE TABLE segment_run (
    id TEXT NOT NULL PRIMARY KEY,
    segment TEXT NOT NULL,
    definition TEXT NOT NULL,
    as_of_ms BIGINT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    good_n BIGINT,
    members BIGINT NOT NULL,
    entered BIGINT NOT NULL,
    leavers BIGINT NOT NULL,
    rows_read BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    missing_ids BIGINT NOT NULL,
    held_reason TEXT,
    held_saw TEXT,
    entered_bits BYTEA NOT NULL,
    leavers_bits BYTEA NOT NULL,
    members_bits BYTEA
);
CREATE INDEX segment_run_good ON segment_run (segment, good_n);
CREATE INDEX segment_run_time ON segment_run (segment, as_of_ms, recorded_at_ms);

CREATE TABLE playbook (
    name TEXT NOT NULL PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'archived')),
    version TEXT NOT NULL,
    activated_at_ms BIGINT NOT NULL,
    seen_bits BYTEA NOT NULL,
    applied_run TEXT,
    applying_run TEXT,
    applying_after BIGINT
);

CREATE TABLE playbook_version (
    playbook TEXT NOT NULL,
    version TEXT NOT NULL,
    bundle TEXT NOT NULL,
    saved_at_ms BIGINT NOT NULL,
    PRIMARY KEY (playbook, version)
);

CREATE TABLE entering (
    playbook TEXT NOT NULL,
    profile BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (playbook, profile)
);

-- Rows lie by person: a page of people, in order of number, is a page of the table and of its indexes.
CREATE TABLE enrollment (
    profile BIGINT NOT NULL,
    id TEXT NOT NULL,
    playbook TEXT NOT NULL,
    version TEXT NOT NULL,
    entered_by TEXT NOT NULL,
    entered_at_ms BIGINT NOT NULL,
    holdout TEXT,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'ended')),
    step TEXT,
    since_ms BIGINT,
    look_at_ms BIGINT,
    exit TEXT,
    ended_at_ms BIGINT,
    goal_reached_at_ms BIGINT,
    outcomes TEXT NOT NULL,
    sealed_entry TEXT,
    PRIMARY KEY (profile, id)
);
CREATE UNIQUE INDEX enrollment_active ON enrollment (playbook, profile) WHERE state <> 'ended';
CREATE INDEX enrollment_due ON enrollment (playbook, look_at_ms, profile) WHERE look_at_ms IS NOT NULL;

CREATE TABLE delivery (
    profile BIGINT NOT NULL,
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
    priority BIGINT NOT NULL,
    claim_rank BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'deferred', 'leased', 'armed', 'accepted', 'rejected', 'in_doubt',
        'withheld', 'suppressed', 'skipped', 'expired', 'cancelled')),
    reason TEXT NOT NULL,
    gates TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    decided_at_ms BIGINT NOT NULL,
    due_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    armed_at_ms BIGINT,
    settled_at_ms BIGINT,
    receipt TEXT,
    fence BIGINT NOT NULL DEFAULT 0,
    node TEXT,
    lease_until BIGINT,
    lease_count BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (profile, id)
);
CREATE INDEX delivery_claim ON delivery (destination, claim_rank, due_at_ms, profile, id) WHERE state = 'pending';
CREATE INDEX delivery_leased ON delivery (lease_until) WHERE state = 'leased';
CREATE INDEX delivery_open ON delivery (state, created_at_ms) WHERE state IN ('armed', 'in_doubt');
CREATE INDEX delivery_log ON delivery (created_at_ms, profile, id);

CREATE TABLE attempt (
    delivery TEXT NOT NULL,
    n BIGINT NOT NULL,
    profile BIGINT NOT NULL,
    address_hash TEXT NOT NULL,
    armed_at_ms BIGINT NOT NULL,
    outcome TEXT CHECK (outcome IN ('accepted', 'rejected', 'retry', 'in_doubt', 'resent')),
    detail TEXT NOT NULL DEFAULT '',
    finished_at_ms BIGINT,
    PRIMARY KEY (delivery, n)
);
CREATE UNIQUE INDEX attempt_open ON attempt (delivery) WHERE outcome IS NULL;

-- `*` is every channel, every purpose.
CREATE TABLE consent_event (
    number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    profile BIGINT NOT NULL,
    channel TEXT NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('granted', 'withdrawn', 'pending')),
    changed_at_ms BIGINT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('local', 'warehouse')),
    source TEXT NOT NULL,
    evidence TEXT,
    UNIQUE (profile, channel, purpose, status, changed_at_ms, origin, source)
);

CREATE TABLE consent (
    profile BIGINT NOT NULL,
    channel TEXT NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (profile, channel, purpose)
);

CREATE TABLE suppression (
    kind TEXT NOT NULL CHECK (kind IN ('profile', 'address')),
    subject TEXT NOT NULL,
    channel TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    source TEXT NOT NULL,
    spares_transactional BIGINT NOT NULL,
    PRIMARY KEY (kind, subject, channel, reason)
);

CREATE TABLE fact (
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    profile BIGINT NOT NULL,
    kind TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    delivery TEXT,
    PRIMARY KEY (source, source_id)
);
CREATE INDEX fact_profile ON fact (profile, at_ms);

CREATE TABLE halt (
    scope TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

-- One row a transaction that wrote entries: one JSON text a line.
CREATE TABLE audit_batch (
    number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    payload TEXT NOT NULL
);

-- One row a batch that is in the tree: where, the hash of each leaf, and the root after it.
CREATE TABLE audit_seal (
    first_index BIGINT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL UNIQUE,
    entries BIGINT NOT NULL,
    leaves BYTEA NOT NULL,
    root BYTEA NOT NULL
);

CREATE TABLE audit_checkpoint (
    size BIGINT NOT NULL PRIMARY KEY,
    frontier BYTEA NOT NULL,
    note TEXT NOT NULL
);

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER audit_batch_rows BEFORE UPDATE OR DELETE ON audit_batch FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_batch_truncate BEFORE TRUNCATE ON audit_batch FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_seal_rows BEFORE UPDATE OR DELETE ON audit_seal FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_seal_truncate BEFORE TRUNCATE ON audit_seal FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_checkpoint_rows BEFORE UPDATE OR DELETE ON audit_checkpoint FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_checkpoint_truncate BEFORE TRUNCATE ON audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER consent_event_rows BEFORE UPDATE OR DELETE ON consent_event FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER consent_event_truncate BEFORE TRUNCATE ON consent_event FOR EACH STATEMENT EXECUTE FUNCTION append_only();
