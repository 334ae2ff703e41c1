-- Audiences at destinations. `remote` is what the destination calls it, once it is there; `due_at_ms`: nothing is tried before.
CREATE TABLE audience (
    number INTEGER NOT NULL PRIMARY KEY,
    destination TEXT NOT NULL,
    name TEXT NOT NULL,
    remote TEXT,
    due_at_ms INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    UNIQUE (destination, name)
) STRICT;
INSERT INTO counter (name, value) VALUES ('audience', 0);

-- One row for what a person is known by in an audience: who changes an address has two for a while. `identity` is its keyed hash, `sealed` itself,
-- since whoever is to be removed must be named. `held` is what the destination has, as far as it said.
CREATE TABLE audience_entry (
    audience INTEGER NOT NULL,
    profile INTEGER NOT NULL,
    identity TEXT NOT NULL,
    address TEXT,
    sealed TEXT NOT NULL,
    todo TEXT NOT NULL CHECK (todo IN ('nothing', 'opt_out', 'add', 'remove', 'leaves', 'rejected')),
    held TEXT NOT NULL CHECK (held IN ('no', 'maybe', 'yes')),
    reason TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    acknowledged_at_ms INTEGER,
    doubtful INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (audience, profile, identity)
) STRICT, WITHOUT ROWID;
CREATE INDEX audience_entry_todo ON audience_entry (audience, todo, profile) WHERE todo <> 'nothing';
CREATE INDEX audience_entry_profile ON audience_entry (profile);
CREATE INDEX audience_entry_address ON audience_entry (address);
CREATE INDEX audience_entry_identity ON audience_entry (identity);
CREATE INDEX audience_entry_doubtful ON audience_entry (profile) WHERE doubtful > 0;

-- The last time that each sync compared its audience with the people.
CREATE TABLE sync (
    name TEXT NOT NULL PRIMARY KEY,
    definition TEXT NOT NULL,
    as_of_ms INTEGER NOT NULL,
    last_due_ms INTEGER,
    wanted INTEGER NOT NULL,
    left_out TEXT NOT NULL,
    held_reason TEXT,
    held_saw TEXT
) STRICT;
