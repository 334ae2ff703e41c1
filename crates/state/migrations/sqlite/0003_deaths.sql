-- How often a process ended with the row in its hands: who does that three times is not sent.
ALTER TABLE delivery ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
CREATE INDEX delivery_suspect ON delivery (destination, deaths, claim_rank, due_at_ms, profile, id) WHERE state = 'pending' AND deaths > 0;
