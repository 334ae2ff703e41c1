-- A rate is of more than destinations: `destination.mail`, `domain.acme.test`, `recipients.mail.google`.
ALTER TABLE rate RENAME COLUMN destination TO name;
UPDATE rate SET name = 'destination.' || name;

-- The rates besides its destination's that a delivery waits for, once it is known that it does. So those of a rate that is full are not
-- looked at while they wait, and keep nobody else waiting.
ALTER TABLE delivery ADD COLUMN lane TEXT NOT NULL DEFAULT '';
DROP INDEX delivery_claim;
CREATE INDEX delivery_claim ON delivery (destination, lane, claim_rank, due_at_ms, profile, id) WHERE state = 'pending';
