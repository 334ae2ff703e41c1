-- What syncs keep in records at destinations. `due_at_ms`: nothing is tried before; `reverted_at_ms`: everything was undone, and it stands still since.
CREATE TABLE record_set (
    number INTEGER NOT NULL PRIMARY KEY,
    sync TEXT NOT NULL,
    destination TEXT NOT NULL,
    object TEXT NOT NULL,
    key_field TEXT NOT NULL,
    due_at_ms INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    reverted_at_ms INTEGER,
    UNIQUE (sync, destination, object, key_field)
) STRICT;
INSERT INTO counter (name, value) VALUES ('record_set', 0);

-- One row for a record: whoever changes their key has two for a while. `subject` is whose it is, `key_hash` the keyed hash of its key, `digest`
-- that of what is to stand in it; `sealed` holds both, and `past` what we wrote into each field and what stood there before. `held`: whether the
-- destination has what we wrote, as far as it said. `kept`: so many fields somebody else wrote.
CREATE TABLE record_entry (
    record_set INTEGER NOT NULL,
    subject TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    digest TEXT NOT NULL,
    sealed TEXT NOT NULL,
    past TEXT NOT NULL DEFAULT '',
    remote TEXT,
    todo TEXT NOT NULL CHECK (todo IN ('nothing', 'write', 'leaves', 'clear', 'revert', 'rejected')),
    held TEXT NOT NULL CHECK (held IN ('no', 'maybe', 'yes')),
    kept INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (record_set, subject, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_entry_todo ON record_entry (record_set, todo, subject) WHERE todo <> 'nothing';
CREATE INDEX record_entry_subject ON record_entry (subject);
CREATE INDEX record_entry_hash ON record_entry (record_set, key_hash);
