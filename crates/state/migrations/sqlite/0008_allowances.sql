-- How many messages of the project, or of a playbook, were armed in an hour, where that is limited.
CREATE TABLE spent (
    hour_ms INTEGER NOT NULL,
    scope TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (hour_ms, scope)
) STRICT;
-- The first messages of a version, upon which the others wait.
CREATE TABLE canary (
    version TEXT NOT NULL PRIMARY KEY,
    playbook TEXT NOT NULL,
    size INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    full_at_ms INTEGER
) STRICT;
