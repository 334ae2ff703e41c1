-- The key of an attempt begins with the person, as that of its delivery: attempts of one transaction then lie side by side. By the
-- delivery alone, which is a hash, each lay on a page of its own, and half of what arming wrote was pages of that index.
CREATE TABLE attempt_by_person (
    profile INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    n INTEGER NOT NULL,
    address_hash TEXT NOT NULL,
    armed_at_ms INTEGER NOT NULL,
    outcome TEXT CHECK (outcome IN ('accepted', 'rejected', 'retry', 'in_doubt', 'resent')),
    detail TEXT NOT NULL DEFAULT '',
    finished_at_ms INTEGER,
    PRIMARY KEY (profile, delivery, n)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt_by_person (profile, delivery, n, address_hash, armed_at_ms, outcome, detail, finished_at_ms)
    SELECT profile, delivery, n, address_hash, armed_at_ms, outcome, detail, finished_at_ms FROM attempt ORDER BY profile, delivery, n;
DROP TABLE attempt;
ALTER TABLE attempt_by_person RENAME TO attempt;
CREATE UNIQUE INDEX attempt_open ON attempt (delivery) WHERE outcome IS NULL;
