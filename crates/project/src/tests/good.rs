//! What a project that is right comes to.

use jiff::{SignedDuration, Timestamp};
use model::condition::{Condition, SegmentTest};
use model::duration::Share;
use model::playbook::{Action, Backfill, Reenter, Wait};
use model::policy::{Canary, CapUnit, Channel, Guards, InDoubt, Permission, Unsure};
use model::segment::{Quantity, SegmentSource};
use model::{BrandName, DestinationName, PlaybookName, PurposeName, SegmentName, Value};

use super::made::Made;
use crate::{Act, Expected, Project, Subject};

fn good() -> Project {
    let loaded = Made::good().load().unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(loaded.warnings.render(false), "");
    loaded.project
}

#[test]
fn settings_have_what_is_written_and_defaults_for_the_rest() {
    let settings = good().settings;
    assert_eq!(
        (settings.project.as_str(), settings.locales.clone()),
        ("acme", vec!["en".to_owned(), "de".to_owned()])
    );
    assert_eq!(settings.timezone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(settings.warehouse.statement_timeout, SignedDuration::from_secs(30));
    let mail = &settings.destinations[&DestinationName::known("mail")];
    assert_eq!(
        serde_json::Value::Object(mail.settings.0.clone()),
        serde_json::json!({"host": "127.0.0.1", "port": 1025, "password": "hunter2-secret"})
    );
    let throttle = mail.throttle.unwrap();
    assert_eq!((throttle.count, throttle.per, throttle.burst), (200, SignedDuration::from_secs(1), 50));
    let brand = &settings.brands[&BrandName::known("acme")];
    assert_eq!(brand.public_url.as_deref(), Some("https://mail.acme.test"));
    assert_eq!(settings.serve_admin, "127.0.0.1:7800");
}

#[test]
fn a_brand_signs_with_the_key_that_was_looked_up() {
    let project = good();
    let signer = &project.signers[&BrandName::known("acme")];
    assert_eq!((signer.domain(), signer.record_name().as_str()), ("acme.test", "d1._domainkey.acme.test"));
    assert!(signer.record().starts_with("v=DKIM1; k=ed25519; p="));
    assert!(!format!("{project:?} {:?}", project.signers).contains("MC4C"));
}

#[test]
fn nothing_that_was_looked_up_shows_itself() {
    let project = good();
    let shown = format!("{project:?} {:?}", project.settings);
    assert!(!shown.contains("hunter2") && !shown.contains("cm9vdC1"), "{shown}");
}

#[test]
fn policy_names_purposes_permission_caps_and_quiet_hours() {
    let policy = good().policy;
    let product = &policy.purposes[&PurposeName::known("product")];
    assert_eq!((product.brand.as_str(), product.title.get("de", &[])), ("acme", "Tips"));
    assert_eq!(policy.permission[&Channel::Email], Permission::OptIn);
    let names: Vec<&str> = policy.caps.iter().map(|cap| cap.name.as_str()).collect();
    assert_eq!(names, ["any_week", "email_day"], "in the order of their names");
    assert_eq!(policy.quiet_hours.len(), 3);
    assert!(policy.holdout.is_some());
    assert!(policy.caps.iter().all(|cap| cap.unit == CapUnit::Profile));
    let given = Guards {
        growth_times: 4,
        in_doubt: Share::percent(2),
        bounced: Share::parse("2.5%").unwrap(),
        first_run: 800,
        canary: Canary { soak: SignedDuration::from_mins(5), ..Guards::default().canary },
        per_hour: 3_000,
        ..Guards::default()
    };
    assert_eq!(policy.guards, given);
    let given = InDoubt {
        marketing: Unsure::Wait,
        lifecycle: Unsure::Assume(Some(SignedDuration::from_hours(5 * 24))),
        transactional: Unsure::ResendOnce(SignedDuration::from_mins(15)),
    };
    assert_eq!(policy.in_doubt, given);
}

#[test]
fn segments_have_queries_or_conditions_and_an_order() {
    let project = good();
    let at_risk = &project.segments[&SegmentName::known("at_risk")];
    let SegmentSource::Sql(query) = &at_risk.source else { panic!("no query") };
    assert_eq!(query.place, "segments/at_risk.yml:7");
    assert_eq!(at_risk.expect.rows_min, Some(Quantity::Count(1)));
    let SegmentSource::Sql(query) = &project.segments[&SegmentName::known("open_ticket")].source else {
        panic!("no query")
    };
    assert_eq!(query.place, "segments/sql/open_ticket.sql:1");
    let SegmentSource::Where(condition) = &project.segments[&SegmentName::known("reachable")].source else {
        panic!("no condition")
    };
    assert_eq!(
        condition.segments()[0],
        (&SegmentName::known("at_risk"), SegmentTest::MemberFor(SignedDuration::from_hours(24)))
    );
    assert_eq!(project.segment_order.last().map(SegmentName::as_str), Some("reachable"));
}

#[test]
fn playbooks_have_steps_with_ids_given_and_made() {
    let project = good();
    let win_back = &project.playbooks[&PlaybookName::known("win_back")];
    let mut ids = Vec::new();
    win_back.walk(&mut |step| ids.push(step.id.as_str().to_owned()));
    assert_eq!(
        ids,
        [
            "nudge",
            "nudge.wait",
            "reaction",
            "reaction.wait",
            "by_plan",
            "offer",
            "offer.wait",
            "by_plan.exit",
            "by_plan.exit.2"
        ],
    );
    assert_eq!(
        (win_back.backfill, win_back.reenter),
        (Backfill::Since(SignedDuration::from_hours(720)), Reenter::After(SignedDuration::from_hours(2160)))
    );
    // The same template, told something else, says something else.
    let says = |step| win_back.contents.get(&model::StepId::known(step));
    assert!(says("nudge").is_some() && says("offer").is_some() && says("nudge") != says("offer"));
    // What the playbook does not say is as the policy has it.
    let guards = win_back.guards.over(&project.policy.guards);
    assert_eq!((guards.fallback, guards.in_doubt), (Share::percent(40), Share::percent(3)));
    assert_eq!((guards.bounced, guards.first_run), (Share::parse("2.5%").unwrap(), 800));
    let sends = win_back.sends();
    let (_, offer) = sends[1];
    assert_eq!((offer.purpose.as_str(), offer.destination.as_str()), ("product", "mail"));
    assert_eq!(offer.with["last"], Value::Boolean(true));
    assert!(
        matches!(&win_back.steps[3].action, Action::Wait(Wait::To { offset, .. }) if *offset == SignedDuration::from_hours(-24))
    );
    let other = &project.playbooks[&PlaybookName::known("other")];
    assert_eq!(
        (other.priority, other.purpose.as_str(), other.holdout.as_ref().unwrap().salt.as_str()),
        (50, "service", "other")
    );
    assert_eq!(other.expires, SignedDuration::from_hours(72));
    assert!(
        win_back
            .filter
            .as_ref()
            .is_some_and(|filter| matches!(filter, Condition::All(all) if all.len() == 2))
    );
}

#[test]
fn a_version_changes_with_what_it_pins_and_with_nothing_else() {
    let version = |made: &Made, name: &str| {
        made.load().unwrap_or_else(|wrong| panic!("{wrong}")).project.playbooks[&PlaybookName::known(name)]
            .version
            .clone()
    };
    let before = version(&Made::good(), "win_back");
    let same = [
        ("playbooks/win_back.yml", "title: Win back", "title: \"Win them back\" # better"),
        ("playbooks/win_back.yml", "priority: 60", "priority: 70"),
        ("playbooks/win_back.yml", "per_run: 5000", "per_run: 1, per_hour: 9"),
        ("playbooks/win_back.yml", "fallback: 40%", "fallback: 50%"),
        ("playbooks/win_back.yml", "backfill: 30d", "backfill: none"),
        (
            "playbooks/win_back.yml",
            "send: {template: nudge, destination: mail,",
            "send: {destination: mail, template: 'nudge',",
        ),
        ("templates/hello.md", "Hello {{", "Hi {{"),
        ("segments/at_risk.yml", "mrr > 0", "mrr > 1"),
    ];
    for (path, from, to) in same {
        let made = Made::good();
        made.replace(path, from, to);
        assert_eq!(version(&made, "win_back"), before, "{path}: {to}");
    }
    let other = [
        ("playbooks/win_back.yml", "wait: 3d", "wait: 4d"),
        ("playbooks/win_back.yml", "purpose: offers", "purpose: product"),
        ("playbooks/win_back.yml", "within: 14d", "within: 15d"),
        ("playbooks/win_back.yml", "share: 10%", "share: 11%"),
        ("templates/nudge.mjml", "Hello", "Dear"),
        ("templates/_layout.mjml", "Unsubscribe", "No more"),
    ];
    for (path, from, to) in other {
        let made = Made::good();
        made.replace(path, from, to);
        assert_ne!(version(&made, "win_back"), before, "{path}: {to}");
    }
}

#[test]
fn a_segments_definition_is_its_query_and_not_its_title() {
    let definition = |made: &Made| {
        made.load().unwrap().project.segments[&SegmentName::known("at_risk")].definition.clone()
    };
    let (made, before) = (Made::good(), definition(&Made::good()));
    made.replace("segments/at_risk.yml", "title: At risk", "title: Quiet");
    assert_eq!(definition(&made), before);
    made.replace("segments/at_risk.yml", "mrr > 0", "mrr > 1");
    assert_ne!(definition(&made), before);
}

#[test]
fn scenarios_have_their_world_and_what_must_come_of_it() {
    let project = good();
    let [at_risk, win_back] = &project.scenarios[..] else { panic!("{:?}", project.scenarios) };
    assert_eq!(at_risk.subject, Subject::Segment(SegmentName::known("at_risk")));
    let account = &at_risk.given.accounts[0];
    assert_eq!(account["id"], Value::Text("7".to_owned()), "an id is a text");
    assert_eq!(account["arr"], Value::Number(1.0), "declared as number");
    assert_eq!(at_risk.expect, Expected::Members(vec!["1".to_owned()]));
    assert_eq!(win_back.file, "tests/win_back.yml");
    assert!(win_back.with_policy);
    let ana = &win_back.given.profiles[0];
    assert!(ana["first_name"].is_missing());
    assert_eq!(
        ana["trial_ends_at"],
        Value::Time("2026-04-01T00:00:00Z".parse::<Timestamp>().unwrap()),
        "declared as time"
    );
    assert_eq!(win_back.given.consent[0].purpose, None);
    assert_eq!(
        win_back.then[5].act,
        Act::Set([("plan".to_owned(), Value::Text("business".to_owned()))].into())
    );
    let Expected::Rows(rows) = &win_back.expect else { panic!("no rows") };
    assert_eq!(
        (rows[1].place.as_str(), rows[1].exit.as_deref()),
        ("tests/win_back.yml:17", Some("criteria_met"))
    );
    assert_eq!(rows[1].at, Some("2026-03-04T09:00:00Z".parse().unwrap()));
}

#[test]
fn a_bundle_reads_back_as_the_version_it_was_made_of() {
    let made = Made::good();
    let project = made.load().unwrap().project;
    let name = PlaybookName::known("win_back");
    let bundle = crate::bundle(&project, &name);
    let pinned = crate::from_bundle(&project, &bundle).unwrap();
    assert_eq!(pinned.playbook, project.playbooks[&name]);

    // The file goes on, a second mail server comes: people under way stay where they were.
    made.replace("playbooks/win_back.yml", "wait: 3d", "wait: 9d");
    made.replace("playbooks/win_back.yml", "priority: 60", "priority: 10");
    made.replace("playbooks/win_back.yml", "send: nudge}", "send: {template: nudge, destination: second}}");
    made.replace("playbooks/other.yml", "{template: hello,", "{template: hello, destination: mail,");
    made.replace("drumbeat.yml", "destinations:\n", "destinations:\n  second: {connector: smtp, host: h}\n");
    let now = made.load().unwrap_or_else(|wrong| panic!("{wrong}")).project;
    let pinned = crate::from_bundle(&now, &bundle).unwrap();
    assert_eq!(pinned.playbook.version, project.playbooks[&name].version);
    assert_ne!(pinned.playbook.version, now.playbooks[&name].version);
    assert_eq!(pinned.playbook.priority, 10, "priority is live");
    assert_eq!(
        pinned.playbook.sends()[0].1.destination.as_str(),
        "mail",
        "the destination it had is still there"
    );
    assert_eq!(pinned.playbook.steps[1].action, Action::Wait(Wait::For(SignedDuration::from_hours(72))));

    assert!(crate::from_bundle(&now, "{}").is_err() && crate::from_bundle(&now, "no").is_err());
}
