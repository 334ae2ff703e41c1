-- Messages in which a default stood in for a value that the person's data lack.
ALTER TABLE tally ADD COLUMN fallback INTEGER NOT NULL DEFAULT 0;
