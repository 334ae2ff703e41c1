//! Guards, as somebody sees them who runs a project that goes wrong.

use crate::support::{Folder, NOW, PLAYBOOK, Ran, TEMPLATE, outbox, project};

const PEOPLE: usize = 400;

/// A project in which one in twenty has no first name, and whose templates greet by it. Everybody may be written to.
fn greeting() -> Folder {
    let folder = project(PEOPLE);
    folder.sql("warehouse.db", "update customers set first_name = null where customer_id % 20 = 3;");
    folder.write(
        "policy.yml",
        "purposes:\n  offers: {title: Offers, class: lifecycle}\nguards: {first_run: 1000, canary: {share: 1%, min: 20, soak: 1h}, per_hour: 300}\n",
    );
    folder
}

/// A merge field that one in twenty lacks: a canary of twenty is too few to tell; of the messages after it too many say "there".
#[test]
fn a_merge_field_that_many_lack_halts_in_production_after_the_canary() {
    let folder = greeting();
    let settings = folder.read("drumbeat.yml");
    folder.write(
        "drumbeat.yml",
        &format!("{settings}production: true\nkeys: {{root: {{env: DRUMBEAT_TEST_KEY}}}}\ndeliver: all\n"),
    );
    let run = |args: &[&str]| {
        let mut command = folder.command(args);
        command.env("DRUMBEAT_TEST_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        Ran::from(command.output().unwrap())
    };
    let pass = |code| run(&["--output", "json", "run", "--once"]).code(code).json();
    run(&["playbook", "activate", "hello"]).code(0);
    let canary = pass(0);
    assert_eq!((outbox(&folder).len(), canary["guards"].as_array().unwrap().len()), (20, 0), "{canary}");
    // As if the hour were over.
    folder.sql("state.db", "update canary set full_at_ms = full_at_ms - 3600000;");
    let tripped = pass(3);
    assert_eq!(
        (&tripped["guards"][0]["reason"], &tripped["guards"][0]["holds"]),
        (&"guard.fallback_rate".into(), &true.into()),
        "{tripped}"
    );
    let sent = outbox(&folder).len();
    assert!(sent <= 300 && tripped["deliveries"]["pending"].as_u64().unwrap() > 0, "{sent} {tripped}");
    let halts = run(&["--output", "ndjson", "halt", "--list"]).code(0).out;
    assert!(halts.contains("guard.fallback_rate") && halts.contains("playbook.hello"), "{halts}");
    // What waits goes on waiting, also when there is room again.
    folder.sql("state.db", "delete from spent;");
    assert_eq!((&pass(0)["deliveries"]["accepted"], outbox(&folder).len()), (&0.into(), sent));
}

/// Elsewhere it is only said; and where it is meant, by the playbook or by the template, it is not even that.
#[test]
fn what_is_meant_trips_nothing_and_what_is_not_is_said() {
    let own = PLAYBOOK.replace("steps:", "guards: {rates: {fallback: 40%}}\nsteps:");
    let asks = TEMPLATE.replace(
        "{{ profile.first_name | default('there') }}",
        "{% if profile.first_name %}{{ profile.first_name }}{% else %}there{% endif %}",
    );
    let with = TEMPLATE.replace("profile.first_name | default", "with.whom | default");
    for (playbook, template, trips) in
        [(PLAYBOOK, TEMPLATE, 1), (&*own, TEMPLATE, 0), (PLAYBOOK, &*asks, 0), (PLAYBOOK, &*with, 0)]
    {
        let folder = greeting();
        folder.write("playbooks/hello.yml", playbook).write("templates/hello.mjml", template);
        let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0);
        let json = ran.json();
        assert_eq!(json["deliveries"]["accepted"], PEOPLE - PEOPLE / 10, "{template}");
        let guards = json["guards"].as_array().unwrap();
        assert_eq!(guards.len(), trips, "{guards:?} {playbook} {template}");
        if trips > 0 {
            assert_eq!(
                (&guards[0]["reason"], &guards[0]["holds"]),
                (&"guard.fallback_rate".into(), &false.into())
            );
            assert!(ran.err.contains("in place of a value that is missing"), "{}", ran.err);
        }
    }
}

/// Whatever playbook and whatever the template is called. What the step tells the template is a part of the words, and what a person asked
/// for is said as often as they ask.
#[test]
fn nobody_gets_the_same_words_twice_in_a_day() {
    let people = 30;
    let folder = project(people);
    let one = PLAYBOOK.replace("  - wait: 2d\n  - {id: again, send: again}\n", "");
    let receipt = one.replace("purpose: offers", "purpose: receipts").replace("send: hello", "send: receipt");
    folder
        .write(
            "policy.yml",
            "purposes:\n  offers: {title: Offers, class: lifecycle}\n  receipts: {title: Receipts, class: transactional}\n",
        )
        .write("templates/copy.mjml", TEMPLATE)
        .write("playbooks/hello.yml", &one)
        .write(
            "templates/receipt.mjml",
            &TEMPLATE.replace("<a href=\"{{ unsubscribe_url }}\">Unsubscribe</a>", ""),
        )
        .write("playbooks/receipt.yml", &receipt)
        .write("playbooks/receipt_twin.yml", &receipt)
        .write("playbooks/twin.yml", &one.replace("send: hello", "send: copy"))
        .write("playbooks/with.yml", &one.replace("send: hello", "send: {template: copy, with: {much: 10}}"));
    folder.run(&["check"]).code(0);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let all = people - people / 10;
    let many = |playbook: &str, options: &[&str]| {
        let which = ["--output", "ndjson", "log", "--playbook", playbook];
        folder.run(&[&which[..], options].concat()).code(0).lines().len()
    };
    for playbook in ["hello", "receipt", "receipt_twin", "with"] {
        assert_eq!(many(playbook, &["--state", "accepted"]), all, "{playbook}");
    }
    assert_eq!(many("twin", &["--state", "accepted"]), 0);
    assert_eq!(many("twin", &["--state", "skipped", "--reason", "cap.same_content"]), all);
    let why = folder.run(&["explain", "--profile", "1", "--playbook", "twin"]).code(0).out;
    assert!(why.contains("the same words 2026-03-02T"), "{why}");
}
