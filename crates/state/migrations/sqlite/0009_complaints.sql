-- Messages that were reported as spam.
ALTER TABLE tally ADD COLUMN complained INTEGER NOT NULL DEFAULT 0;
