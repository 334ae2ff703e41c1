-- The processes that deliver, and of which the one with the lowest number decides. `seen_at` is lease time.
CREATE TABLE node (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    seen_at INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('node', 0);
