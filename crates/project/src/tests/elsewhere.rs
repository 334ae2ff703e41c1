//! Mistakes in segments, playbooks and scenarios, one at a time, with all that is said of each.

/// File, what stands there, what is written instead, and what is said.
pub(super) const ELSEWHERE: &[(&str, &str, &str, &[&str])] = &[
    (
        "segments/at_risk.yml",
        "owner: retention@acme.test\n",
        "",
        &["E0103 segments/at_risk.yml:1:1+5 the key `owner` is missing"],
    ),
    (
        "segments/at_risk.yml",
        "title: At risk",
        "titel: At risk",
        &["E0102 segments/at_risk.yml:1:1+5 unknown key `titel` = did you mean `title`?"],
    ),
    (
        "segments/at_risk.yml",
        "why: \"Went quiet.\"",
        "why:",
        &["E0104 segments/at_risk.yml:3:1+3 no value: expected a text"],
    ),
    (
        "segments/at_risk.yml",
        "\"0 6 * * mon-fri\"",
        "\"0 6 * * 1-5\"",
        &[
            "E0105 segments/at_risk.yml:5:11+13 `0 6 * * 1-5` is not a schedule; weekdays are names, such as `mon-fri`: crons disagree on their numbers",
        ],
    ),
    (
        "segments/at_risk.yml",
        "\"0 6 * * mon-fri\"",
        "1 hour",
        &["E0105 segments/at_risk.yml:5:11+6 `1 hour` is not a schedule; a duration is one word: `1h`"],
    ),
    (
        "segments/at_risk.yml",
        "\"0 6 * * mon-fri\"",
        "\"0 0 31 2 *\"",
        &[
            "E0105 segments/at_risk.yml:5:11+12 `0 0 31 2 *` is not a schedule; this never comes: no such month has such a day",
        ],
    ),
    (
        "segments/at_risk.yml",
        "  where c.mrr > 0",
        "  where c.mrr > 0 and e.at < now()",
        &[
            "E0301 segments/at_risk.yml:9:30+3 `now()` reads the database's own clock = a run that cannot be repeated cannot be audited: use `:now` or `:today`, or `:now_minus_14d`, `:today_plus_3d`",
        ],
    ),
    (
        "segments/at_risk.yml",
        ":now_minus_14d",
        ":now_minus_two_weeks",
        &[
            "E0301 segments/at_risk.yml:11:43+20 there is no parameter `:now_minus_two_weeks` = known are `:now`, `:today`, and both with an offset: `:now_minus_14d`, `:today_plus_3d`",
        ],
    ),
    (
        "segments/at_risk.yml",
        "max: 20%",
        "max: 200%",
        &[
            "E0105 segments/at_risk.yml:14:23+4 `200%` is not a number of people; a count, or a share such as `20%`",
        ],
    ),
    (
        "segments/at_risk.yml",
        "fresh: [orders]",
        "fresh: [order]",
        &["E0201 segments/at_risk.yml:17:11+5 there is no freshness `order` = did you mean `orders`?"],
    ),
    (
        "segments/at_risk.yml",
        "tags: [retention]",
        "tags: [retention]\nstay: {segment.open_ticket: true}",
        &["E0901 segments/at_risk.yml:5:1+4 not yet: `stay` is not built yet"],
    ),
    (
        "segments/at_risk.yml",
        "tags: [retention]",
        "tags: [retention]\nwhere: {segment.open_ticket: true}",
        &[
            "E0108 segments/at_risk.yml:5:1+5 `where` and `sql` do not go together = ask for the segment of the query in `where`, from a file of its own",
        ],
    ),
    (
        "segments/at_risk.yml",
        "tags: [retention]",
        "tags: *words",
        &["E0107 segments/at_risk.yml:4:7+6 aliases are not read here = write the value out"],
    ),
    (
        "segments/at_risk.yml",
        "tags: [retention]",
        "tags: [retention",
        &["E0101 segments/at_risk.yml:5:9+1 this is not YAML: illegal placement of ':' indicator"],
    ),
    (
        "segments/at_risk.yml",
        "tags: [retention]",
        "title: Again",
        &["E0106 segments/at_risk.yml:4:1+5 the key `title` is there twice; the first is in line 1"],
    ),
    (
        "segments/open_ticket.yml",
        "sql_file: sql/open_ticket.sql",
        "sql_file: ../../secrets.sql",
        &[
            "E0105 segments/open_ticket.yml:4:11+17 the file lies outside the project = write a path that begins beside this file",
        ],
    ),
    (
        "segments/open_ticket.yml",
        "sql_file: sql/open_ticket.sql",
        "sql_file: sql/open_tickets.sql",
        &[
            "E0101 segments/open_ticket.yml:4:11+20 cannot read `segments/sql/open_tickets.sql`; there is no such file",
        ],
    ),
    (
        "segments/open_ticket.yml",
        "sql_file: sql/open_ticket.sql\n",
        "",
        &["E0103 segments/open_ticket.yml:1:1+5 the key `sql` (or `sql_file`) is missing"],
    ),
    (
        "segments/open_ticket.yml",
        "sql_file: sql/open_ticket.sql",
        "where: {segment.reachable: true}",
        &[
            "E0202 segments/open_ticket.yml:4:17+9 segments ask about each other in a circle; `open_ticket` -> `reachable` -> `open_ticket`",
        ],
    ),
    (
        "segments/sql/open_ticket.sql",
        "from tickets",
        "; delete from tickets",
        &[
            "E0301 segments/sql/open_ticket.sql:2:3+6 a second statement begins here: `delete` = a query is one SELECT that reads and changes nothing",
        ],
    ),
    (
        "segments/reachable.yml",
        "segment.open_ticket: false",
        "segment.open_tickets: false",
        &[
            "E0201 segments/reachable.yml:6:11+12 there is no segment `open_tickets` = did you mean `open_ticket`?",
        ],
    ),
    (
        "segments/reachable.yml",
        "segment.open_ticket: false",
        "segment.open_ticket: maybe",
        &["E0105 segments/reachable.yml:6:24+5 `maybe` is not `true` or `false`"],
    ),
    (
        "segments/reachable.yml",
        "segment.open_ticket: false",
        "event.order_placed: true",
        &["E0901 segments/reachable.yml:6:3+18 not yet: conditions on `event` are not built yet"],
    ),
    (
        "segments/reachable.yml",
        "segment.open_ticket: false",
        "segmnt.open_ticket: false",
        &[
            "E0102 segments/reachable.yml:6:3+18 a condition cannot ask about `segmnt.open_ticket` = did you mean `segment.open_ticket`?",
        ],
    ),
    (
        "segments/reachable.yml",
        "segment.open_ticket: false",
        "step.nudge: accepted",
        &[
            "E0102 segments/reachable.yml:6:3+10 `step` cannot be asked about here = here a condition begins with one of `profile.`, `account.`, `segment.`, `consent.`, `playbook.`, or is `all`, `any` or `not`",
        ],
    ),
    (
        "segments/reachable.yml",
        "consent.email.offers",
        "consent.offers",
        &[
            "E0102 segments/reachable.yml:7:3+14 consent is for a channel and a purpose = write `consent.CHANNEL.PURPOSE`, such as `consent.email.offers`",
        ],
    ),
    (
        "segments/reachable.yml",
        "{for: 1d}",
        "{for: a day}",
        &[
            "E0105 segments/reachable.yml:5:26+5 `a day` is not a duration; a duration is a whole number and a unit: `90s`, `15m`, `12h`, `3d` or `2w`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "enter: segment.reachable",
        "enter: reachable",
        &[
            "E0105 playbooks/win_back.yml:5:8+9 `reachable` is nothing to enter on; `segment.NAME` = did you mean `segment.reachable`?",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "enter: segment.reachable",
        "enter: event.order_placed",
        &["E0901 playbooks/win_back.yml:5:8+18 not yet: entering on an event is not built yet"],
    ),
    (
        "playbooks/win_back.yml",
        "enter: segment.reachable",
        "enter: segment.unreachable",
        &[
            "E0201 playbooks/win_back.yml:5:16+11 there is no segment `unreachable` = did you mean `reachable`?",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "playbook.other",
        "playbook.onboarding",
        &[
            "E0201 playbooks/win_back.yml:7:12+10 there is no playbook `onboarding` = there is no playbooks/onboarding.yml",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "{not: active}",
        "{not: running}",
        &[
            "E0105 playbooks/win_back.yml:7:25+7 `running` is not where a person stands; one of `active`, `reached_goal`, `finished`, `never`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "entry.plan: team",
        "entry.plan: {at_leest: 3}",
        &["E0102 playbooks/win_back.yml:8:23+8 unknown key `at_leest` = did you mean `at_least`?"],
    ),
    (
        "playbooks/win_back.yml",
        "profile.plan: team",
        "profile.plan: teem",
        &["E0306 playbooks/win_back.yml:27:54+4 `plan` never has the value `teem` = did you mean `team`?"],
    ),
    (
        "playbooks/win_back.yml",
        "purpose: offers",
        "purpose: ofers",
        &["E0201 playbooks/win_back.yml:13:10+5 there is no purpose `ofers` = did you mean `offers`?"],
    ),
    (
        "playbooks/win_back.yml",
        "purpose: offers\n",
        "",
        &[
            "E0103 playbooks/win_back.yml:1:1+5 the key `purpose` is missing = give the playbook one, or each of its sends",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "priority: 60",
        "priority: 101",
        &["E0105 playbooks/win_back.yml:14:11+3 `101` is not a whole number from 0 to 100"],
    ),
    (
        "playbooks/win_back.yml",
        "reenter: {after: 90d}",
        "reenter: {after: 90d, per: plan}",
        &["E0901 playbooks/win_back.yml:10:23+3 not yet: `per` is not built yet"],
    ),
    (
        "playbooks/win_back.yml",
        "limits: {per_run: 5000}",
        "limits: {per_hour: 0}",
        &["E0105 playbooks/win_back.yml:16:20+1 `0` is not a whole number from 1 to 1000000000"],
    ),
    (
        "playbooks/win_back.yml",
        "{id: nudge, send: nudge}",
        "{send: nudge}",
        &[
            "E0201 playbooks/win_back.yml:12:85+5 there is no step `nudge`",
            "E0103 playbooks/win_back.yml:20:6+4 the key `id` is missing = where something goes out, the step needs a name that stays",
            "E0201 playbooks/win_back.yml:23:25+5 there is no step `nudge`",
            "E0201 tests/win_back.yml:13:38+5 the playbook `win_back` has no step `nudge`",
            "E0201 tests/win_back.yml:16:35+5 the playbook `win_back` has no step `nudge`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "{id: nudge, send: nudge}",
        "{id: nudge, send: nugde}",
        &["E0201 playbooks/win_back.yml:20:23+5 there is no template `nugde` = did you mean `nudge`?"],
    ),
    (
        "playbooks/win_back.yml",
        "{id: nudge, send: nudge}",
        "{id: nudge, record: {destination: crm}}",
        &["E0901 playbooks/win_back.yml:20:17+6 not yet: `record` is not built yet"],
    ),
    (
        "playbooks/win_back.yml",
        "{id: nudge, send: nudge}",
        "{id: nudge, send: nudge, exit: now}",
        &["E0108 playbooks/win_back.yml:20:10+5 a step does one thing = make a step of each"],
    ),
    (
        "playbooks/win_back.yml",
        "  - {id: nudge, send: nudge}\n",
        "  - {id: offer, send: nudge}\n",
        &[
            "E0201 playbooks/win_back.yml:12:85+5 there is no step `nudge`",
            "E0201 playbooks/win_back.yml:23:25+5 there is no step `nudge`",
            "E0106 playbooks/win_back.yml:29:18+5 the step `offer` is there twice; the first is in line 20",
            "E0201 tests/win_back.yml:13:38+5 the playbook `win_back` has no step `nudge`",
            "E0201 tests/win_back.yml:16:35+5 the playbook `win_back` has no step `nudge`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "wait: 3d",
        "wait: 3 days",
        &[
            "E0105 playbooks/win_back.yml:21:11+6 `3 days` is not a duration; a duration is a whole number and a unit: `90s`, `15m`, `12h`, `3d` or `2w`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "wait: 3d",
        "wait: 3d\n    expires: 1d",
        &[
            "warning E0108 playbooks/win_back.yml:22:5+7 `expires` does nothing here = it belongs to a step with `send`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        ", at_most: 4d",
        "",
        &["E0103 playbooks/win_back.yml:23:5+4 the key `at_most` is missing"],
    ),
    (
        "playbooks/win_back.yml",
        "until: {step.nudge: [bounced, skipped]}",
        "until: {step.nudge: clicked}",
        &["E0901 playbooks/win_back.yml:23:32+7 not yet: `clicked` is not built yet"],
    ),
    (
        "playbooks/win_back.yml",
        "until: {step.nudge: [bounced, skipped]}",
        "until: {step.offer: accepted}",
        &["E0205 playbooks/win_back.yml:23:25+5 the step `offer` comes later; it begins in line 29"],
    ),
    (
        "playbooks/win_back.yml",
        "until: {step.nudge: [bounced, skipped]}",
        "until: {step.nugde: accepted}",
        &["E0201 playbooks/win_back.yml:23:25+5 there is no step `nugde` = did you mean `nudge`?"],
    ),
    (
        "playbooks/win_back.yml",
        "to: profile.trial_ends_at",
        "to: trial_ends_at",
        &[
            "E0105 playbooks/win_back.yml:24:16+13 `trial_ends_at` is not a value of the person; `profile.COLUMN`, `account.COLUMN` or, in playbooks, `entry.COLUMN`",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "      - if: {step.reaction: timed_out, profile.plan: team}\n        steps",
        "      - steps",
        &[
            "E0108 playbooks/win_back.yml:27:9+5 only the last arm may go without `if` = the arms after this one would never be reached",
        ],
    ),
    (
        "playbooks/win_back.yml",
        "destination: mail",
        "destination: male",
        &["E0201 playbooks/win_back.yml:29:62+4 there is no destination `male` = did you mean `mail`?"],
    ),
    (
        "playbooks/win_back.yml",
        "goal: {when:",
        "goal: {whn:",
        &["E0102 playbooks/win_back.yml:12:8+3 unknown key `whn` = did you mean `when`?"],
    ),
    (
        "tests/win_back.yml",
        "enters: open_ticket",
        "clicks: nudge",
        &["E0901 tests/win_back.yml:9:29+6 not yet: `clicks` is not built yet"],
    ),
    (
        "tests/win_back.yml",
        "reason: ok.accepted",
        "reason: ok.acepted",
        &[
            "E0105 tests/win_back.yml:16:67+10 `ok.acepted` is not a reason code = did you mean `ok.accepted`?",
        ],
    ),
    (
        "tests/win_back.yml",
        "at: +2d, profile: ana, withdraws: offers",
        "at: 2d, profile: ana, withdraws: offers",
        &[
            "E0105 tests/win_back.yml:11:10+2 `2d` is not a time of the scenario; `+1d` from the start, or RFC 3339 such as `2026-03-03T09:00:00Z`",
        ],
    ),
    (
        "tests/at_risk.yml",
        "accounts: [{id: 7, arr: 1}]",
        "accounts: [{arr: 1}]",
        &["E0103 tests/at_risk.yml:6:3+8 every account has an `id`"],
    ),
    (
        "playbooks/win_back.yml",
        "account.arr: {over: 20000}",
        "account.tier: [gold, tni]",
        &["E0306 playbooks/win_back.yml:8:90+3 `tier` never has the value `tni` = did you mean `tin`?"],
    ),
    (
        "playbooks/win_back.yml",
        "account.arr: {over: 20000}",
        "acount.arr: {over: 20000}",
        &[
            "E0102 playbooks/win_back.yml:8:69+10 a condition cannot ask about `acount.arr` = did you mean `account.arr`?",
        ],
    ),
    (
        "tests/at_risk.yml",
        "segment: at_risk",
        "segment: at_rist",
        &["E0201 tests/at_risk.yml:2:10+7 there is no segment `at_rist` = did you mean `at_risk`?"],
    ),
    (
        "tests/at_risk.yml",
        "segment: at_risk\n",
        "",
        &["E0103 tests/at_risk.yml:1:1+5 a scenario tries something: `playbook` or `segment`"],
    ),
];
