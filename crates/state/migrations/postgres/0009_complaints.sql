-- Messages that were reported as spam.
ALTER TABLE tally ADD COLUMN complained BIGINT NOT NULL DEFAULT 0;
