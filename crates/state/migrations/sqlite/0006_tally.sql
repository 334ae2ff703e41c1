-- What happened to the messages of a playbook, by the hour and by the node that counted it: nobody waits for anybody to count.
CREATE TABLE tally (
    hour_ms INTEGER NOT NULL,
    playbook TEXT NOT NULL,
    node TEXT NOT NULL,
    accepted INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    bounced INTEGER NOT NULL,
    in_doubt INTEGER NOT NULL,
    unmade INTEGER NOT NULL,
    unsubscribed INTEGER NOT NULL,
    PRIMARY KEY (hour_ms, playbook, node)
) STRICT;
