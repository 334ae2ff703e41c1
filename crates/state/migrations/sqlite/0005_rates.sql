-- How fast a destination may be used, by all nodes together: when its next turn is, in microseconds of lease time, and what share of
-- its rate it has, in thousandths, since when (lease time).
CREATE TABLE rate (
    destination TEXT NOT NULL PRIMARY KEY,
    next_us INTEGER NOT NULL,
    share INTEGER NOT NULL,
    share_since INTEGER NOT NULL
) STRICT;
