//! A small project that is right, to be changed by tests.

use std::collections::BTreeMap;
use std::path::Path;

use model::Channel;
use serde_json::json;
use tempfile::TempDir;

use crate::{Can, Diagnostics, KnownConnector, Loaded};

/// The files of a project that is right and uses every part there is.
pub(super) const GOOD: &[(&str, &str)] = &[
    (
        "drumbeat.yml",
        r#"version: 1
project: acme
timezone: Europe/Berlin
locales: [en, de]
deliver: local
colleagues: ["*@acme.test"]
state: sqlite://.drumbeat/state.db
warehouse:
  url: sqlite://warehouse.db
  times: sql
  statement_timeout: 30s
brands:
  acme:
    title: Acme
    from: "Acme <hello@acme.test>"
    reply_to: help@acme.test
    postal_address: "Acme GmbH, Example Street 1, Berlin"
    public_url: https://mail.acme.test/
    track: {opens: false, clicks: false}
    dkim: {domain: acme.test, selector: d1, key: {env: DKIM_KEY}}
destinations:
  mail: {connector: smtp, host: 127.0.0.1, port: 1025, password: {env: MAIL_PASSWORD}, throttle: {rate: 200/s, burst: 50}, timeout: 30s}
keys: {root: {env: ROOT_KEY, default: none}}
serve: {admin: "127.0.0.1:7800", public: "127.0.0.1:7801"}
environments:
  staging: {deliver: colleagues, timezone: null, warehouse: {url: {env: WAREHOUSE_URL}, schema: staging, times: null}}
  prod:
    production: true
    deliver: all
    keys: {root: {env: ROOT_KEY}}
    destinations: {mail: {connector: pigeon, loft: north}}
"#,
    ),
    (
        "data.yml",
        r#"profiles:
  sql: |
    select customer_id as id, email, timezone, locale, country, account_id, first_name, plan, trial_ends_at
    from customers
  columns:
    plan: {type: text, values: [trial, team, business], title: "Plan", personal: false}
    trial_ends_at: time
fresh:
  orders: {sql: "select max(loaded_at) from orders", within: 26h}
accounts:
  sql: select company_id as id, name, arr, tier from companies
  columns: {arr: number, tier: {values: [gold, tin]}}
"#,
    ),
    (
        "policy.yml",
        r#"purposes:
  offers: {title: {en: "Offers", de: "Angebote"}, class: marketing}
  product: {title: "Tips", class: lifecycle, brand: acme}
  service: {title: "Your account", class: transactional}
consent:
  sql: select customer_id as profile, channel, purpose, status, changed_at, source from consents
regions: {other: {email: opt_in, sms: never}}
caps:
  email_day: {channel: email, class: marketing, max: 1, per: 1 calendar day, zone: profile, on_hit: defer}
  any_week: {class: [marketing, lifecycle], max: 4, per: 7d, on_hit: skip, playbook: win_back, purpose: offers, brand: acme, scope: profile}
quiet_hours:
  nights: {channel: [email, push], class: marketing, from: "21:00", to: "08:00", zone: profile}
  sundays: {days: [sun], where: {profile.country: DE}, zone: project, purpose: offers, brand: acme, playbook: win_back}
  holy: {dates: [2026-12-24], where: {account.tier: gold}}
holdout: {share: 5%, salt: acme-2026, rotate: 90d}
guards: {growth: {times: 4}, in_doubt: 2%, rates: {bounced: 2.5%}, first_run: 800, canary: {soak: 5m}, per_hour: 3000}
in_doubt: {marketing: wait, lifecycle: {assume: 5d}, transactional: {resend: 15m}}
"#,
    ),
    (
        "segments/at_risk.yml",
        r#"title: At risk
owner: retention@acme.test
why: "Went quiet."
tags: [retention]
schedule: "0 6 * * mon-fri"
sql: |
  select c.customer_id as id, c.plan, max(e.at) as last_seen
  from customers c left join sessions e using (customer_id)
  where c.mrr > 0
  group by 1, 2
  having max(e.at) is null or max(e.at) < :now_minus_14d
columns: {last_seen: time}
expect:
  rows: {min: 1, max: 20%}
  change: {max: 30%}
  not_null: [last_seen]
  fresh: [orders]
"#,
    ),
    (
        "segments/open_ticket.yml",
        "title: Open ticket\nowner: o@acme.test\nwhy: Waits.\nsql_file: sql/open_ticket.sql\n",
    ),
    ("segments/sql/open_ticket.sql", "select customer_id as id\nfrom tickets where state = 'open'\n"),
    (
        "segments/reachable.yml",
        "title: Reachable\nowner: o@acme.test\nwhy: Both.\nwhere:\n  segment.at_risk: {for: 1d}\n  segment.open_ticket: false\n  consent.email.offers: {not: [withdrawn]}\n",
    ),
    (
        "playbooks/win_back.yml",
        r#"title: Win back
owner: growth@acme.test
why: "Before renewal."
tags: growth
enter: segment.reachable
where:
  playbook.other: {not: active}
  any: [{entry.plan: team}, {profile.first_name: {missing: true}}, {account.arr: {over: 20000}, entry.plan: {same_as: account.tier}}]
backfill: 30d
reenter: {after: 90d}
exit: {on_leave: true, when: {segment.open_ticket: true}}
goal: {when: {all: [{profile.plan: {of: [team, business], not: trial}}], not: {step.nudge: bounced}}, within: 14d, exit: false}
purpose: offers
priority: 60
holdout: {share: 10%, salt: win}
limits: {per_run: 5000}
window: {days: [tue, wed], from: "09:00", to: "17:00"}
expires: 2d
steps:
  - {id: nudge, send: nudge}
  - wait: 3d
  - id: reaction
    wait: {until: {step.nudge: [bounced, skipped]}, at_most: 4d}
  - wait: {to: profile.trial_ends_at, minus: 1d}
  - id: by_plan
    branch:
      - if: {step.reaction: timed_out, profile.plan: team}
        steps:
          - {id: offer, send: {template: nudge, destination: mail, purpose: product, with: {subject: "Ten", last: true}}, expires: 1d, window: {days: mon}}
          - wait: {for: 1h}
      - steps:
          - exit: "no plan"
  - exit: done
guards: {rates: {fallback: 40%}, in_doubt: 3%}
"#,
    ),
    (
        "playbooks/other.yml",
        "title: Other\nowner: o@acme.test\nwhy: Because.\nenter: segment.at_risk\nholdout: 5%\nreenter: never\nsteps:\n  - {id: hello, send: {template: hello, purpose: service}}\n",
    ),
    (
        "templates/_layout.mjml",
        "<mjml><mj-body>{% block body %}{% endblock %}<mj-section><mj-column><mj-text>{{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></mj-text></mj-column></mj-section></mj-body></mjml>\n",
    ),
    (
        "templates/nudge.mjml",
        "---\nsubject: \"{{ with.subject | default('Is everything all right?') }}\"\n---\n{% extends \"_layout.mjml\" %}{% block body %}<mj-section><mj-column><mj-text>Hello {{ profile.first_name | default('there') }}, {{ entry.plan | default('') }}</mj-text></mj-column></mj-section>{% endblock %}\n",
    ),
    (
        "templates/hello.md",
        "---\nsubject: Hello\n---\nHello {{ profile.first_name | default('there') }} of {{ account.name | default('nobody') }}.\n",
    ),
    (
        "tests/win_back.yml",
        r#"title: Goes on
playbook: win_back
start: 2026-03-03T09:00:00Z
given:
  profiles: [{id: ana, email: ana@example.test, first_name: "", plan: team, trial_ends_at: 2026-04-01T00:00:00Z}]
  consent: [{profile: ana, channel: email, purpose: "*", status: granted}]
  segments: {at_risk: [ana], open_ticket: []}
then:
  - {at: +1d, profile: ana, enters: open_ticket}
  - {at: +2d, profile: ana, leaves: open_ticket}
  - {at: +2d, profile: ana, withdraws: offers}
  - {at: +2d, profile: ana, grants: offers}
  - {at: +2d, profile: ana, bounces: nudge}
  - {at: 2026-03-06T09:00:00Z, profile: ana, set: {plan: business}}
expect:
  - {at: +0d, profile: ana, step: nudge, state: accepted, reason: ok.accepted, template: nudge, subject: "Is everything all right?", contains: there}
  - {at: +1d, profile: ana, exit: criteria_met}
with_policy: true
"#,
    ),
    (
        "tests/at_risk.yml",
        "title: Rows\nsegment: at_risk\nstart: 2026-03-03T09:00:00Z\ngiven:\n  tables: {customers: [{customer_id: 1, plan: team, mrr: 5}], sessions: []}\n  accounts: [{id: 7, arr: 1}]\nexpect: {members: [1]}\n",
    ),
];

/// A project's files in a folder of their own.
pub(super) struct Made {
    pub(super) dir: TempDir,
}

impl Made {
    /// The good project.
    pub(super) fn good() -> Self {
        Self::of(GOOD)
    }

    /// Of these files.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            made.write(path, text);
        }
        made
    }

    /// Writes a file.
    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces a text that must be there.
    pub(super) fn replace(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.dir.path().join(path)).unwrap();
        assert!(text.contains(from), "{path} has no {from}");
        self.write(path, text.replacen(from, to, 1));
    }

    /// Loads it without an environment.
    pub(super) fn load(&self) -> Result<Loaded, Diagnostics> {
        load(self.dir.path(), None, &[])
    }

    /// The picture of all that is wrong with it.
    pub(super) fn wrong(&self) -> String {
        self.load().err().map_or_else(String::new, |wrong| wrong.render(false))
    }
}

/// The key of RFC 8463 A.1, which all the world has.
pub(super) const DKIM_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----";

/// The environment variables that the good project needs.
const VARIABLES: &[(&str, &str)] = &[
    ("MAIL_PASSWORD", "hunter2-secret"),
    ("ROOT_KEY", "cm9vdC1rZXktc2VjcmV0"),
    ("DKIM_KEY", DKIM_KEY),
    ("NO_KEY", "hunter2-no-key"),
];

/// What can be read of a project, right or wrong.
pub(super) fn read(dir: &Path) -> crate::Reading {
    let lookup =
        |name: &str| VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    crate::read(dir, None, &connectors(), &lookup)
}

/// Loads with these environment variables besides those the good project needs.
pub(super) fn load(
    dir: &Path,
    environment: Option<&str>,
    variables: &[(&str, &str)],
) -> Result<Loaded, Diagnostics> {
    let mut all: BTreeMap<&str, &str> = VARIABLES.iter().copied().collect();
    all.extend(variables.iter().copied());
    crate::load(dir, environment, &connectors(), &|name| all.get(name).map(|value| (*value).to_owned()))
}

/// Two connectors: one that is checked, one that takes anything.
pub(super) fn connectors() -> Vec<KnownConnector> {
    let check = |settings: &model::settings::ConnectorSettings| {
        let mut mistakes = Vec::new();
        for (key, value) in &settings.0 {
            match key.as_str() {
                "host" | "password" if value.is_string() => {}
                "port" if value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)) => {}
                "port" => mistakes.push((key.clone(), "expected a whole number from 1 to 65535".to_owned())),
                _ => mistakes.push((key.clone(), "no such setting".to_owned())),
            }
        }
        if !settings.0.contains_key("host") {
            mistakes.push(("host".to_owned(), "is missing".to_owned()));
        }
        mistakes
    };
    let schema = || json!({"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "integer"}, "password": {"type": "string"}}});
    vec![
        KnownConnector {
            name: "smtp",
            can: Can { messages: Some(Channel::Email), audiences: false, records: None },
            check: Box::new(check),
            schema,
        },
        KnownConnector {
            name: "pigeon",
            can: Can { messages: Some(Channel::Email), audiences: true, records: None },
            check: Box::new(|_| Vec::new()),
            schema: || json!({"type": "object"}),
        },
        KnownConnector {
            name: "text",
            can: Can { messages: Some(Channel::Sms), audiences: false, records: Some(false) },
            check: Box::new(|_| Vec::new()),
            schema: || json!({"type": "object"}),
        },
        KnownConnector {
            name: "ledger",
            can: Can { messages: None, audiences: true, records: Some(true) },
            check: Box::new(|_| Vec::new()),
            schema: || json!({"type": "object"}),
        },
    ]
}
