-- What happened to the messages of a playbook, by the hour and by the node that counted it: nobody waits for anybody to count.
CREATE TABLE tally (
    hour_ms BIGINT NOT NULL,
    playbook TEXT NOT NULL,
    node TEXT NOT NULL,
    accepted BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    bounced BIGINT NOT NULL,
    in_doubt BIGINT NOT NULL,
    unmade BIGINT NOT NULL,
    unsubscribed BIGINT NOT NULL,
    PRIMARY KEY (hour_ms, playbook, node)
);
