-- Deliveries by what several people share, an account or an address, where a cap counts by it. `unit` is its keyed hash.
CREATE TABLE shared_touch (
    unit TEXT NOT NULL,
    profile INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (unit, profile, delivery)
) STRICT, WITHOUT ROWID;
CREATE INDEX shared_touch_time ON shared_touch (at_ms);
