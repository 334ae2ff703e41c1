-- How many messages of the project, or of a playbook, were armed in an hour, where that is limited.
CREATE TABLE spent (
    hour_ms BIGINT NOT NULL,
    scope TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, scope)
);
-- The first messages of a version, upon which the others wait.
CREATE TABLE canary (
    version TEXT NOT NULL PRIMARY KEY,
    playbook TEXT NOT NULL,
    size BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    full_at_ms BIGINT
);
