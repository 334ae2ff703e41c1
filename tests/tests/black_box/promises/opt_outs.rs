//! P9 and P10: an opt-out that was answered is there whatever happens next, and nothing is handed over after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::derived;
use super::nodes::Nodes;
use super::oracle::Found;
use super::provider::{Provider, Taken};
use super::record::{Tally, try_seeds};
use super::stage::{Stage, Store};
use crate::support::TEMPLATE;

/// People in the warehouse.
const PEOPLE: usize = 160;
/// A node is killed so often in a run of P10.
const DEATHS: u64 = 4;
/// All is done by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who opts out, by which message, and when the answer was there, if it was one.
type Answer = (Taken, Option<Instant>);

/// Presses the button in each of these messages, all at once; tells of each answer as it comes.
fn press(port: u16, messages: Vec<Taken>) -> Receiver<Answer> {
    let (tell, answers) = channel();
    for message in messages {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let answered = post(port, message.way_out.as_deref().unwrap());
            drop(tell.send((message, answered)));
        });
    }
    answers
}

/// One click; when it was answered 200. Whoever is killed over it answers nothing.
fn post(port: u16, path: &str) -> Option<Instant> {
    let body = "List-Unsubscribe=One-Click";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).ok()?;
    status.ends_with(b" 200").then(Instant::now)
}

/// The messages of those whose opt-out is in the state.
fn opted_out(stage: &Stage<'_>) -> BTreeSet<String> {
    let said = stage.ask(
        "select delivery.id from delivery join consent on consent.profile = delivery.profile
        where consent.channel = 'email' and consent.status = 'withdrawn' and consent.origin = 'local'",
    );
    said.lines().map(str::to_owned).collect()
}

/// P10, one seed: the node that answers is killed the moment it has answered, again and again, in the middle of delivering.
fn answered_and_killed(store: &Store, seed: u64, tally: &mut Tally) {
    let provider = Provider::slow(seed, Duration::from_millis(5));
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let mut nodes = Nodes::start(&stage, 1);
    let (mut answered, mut pressed, mut found) = (BTreeSet::new(), 0, Vec::new());
    for death in 0..DEATHS {
        let at_once = 1 + usize::try_from(derived(seed, 100 + death) % 8).unwrap();
        let port = nodes.public(0);
        // Of those that the daemon delivers meanwhile.
        let there = provider.wait_for(pressed + at_once, PATIENCE);
        assert!(there >= pressed + at_once, "{there} messages: {}", nodes.log());
        let batch = provider.taken()[pressed..pressed + at_once].to_vec();
        pressed += at_once;
        let answers = press(port, batch);
        let enough = 1 + usize::try_from(derived(seed, 200 + death) % at_once as u64).unwrap();
        let mut came: Vec<Answer> = answers.iter().take(enough).collect();
        nodes.kill(0);
        came.extend(answers);
        answered.extend(came.into_iter().filter_map(|(message, when)| when.map(|_| message.delivery)));
        nodes.again(0);
        let there = opted_out(&stage);
        let lost = answered
            .difference(&there)
            .map(|lost| Found::Otherwise(format!("the opt-out of {lost} is lost")));
        found.extend(lost);
    }
    nodes.public(0);
    let (_, code) = nodes.terminate(0);
    let verified = stage.folder.run(&["audit", "verify"]);
    if code != Some(0) || verified.code != 0 {
        found.push(Found::Audit(format!("{code:?} {}{}", verified.err, nodes.log())));
    }
    let lost = answered.difference(&opted_out(&stage)).count();
    if lost > 0 {
        found.push(Found::Otherwise(format!("{lost} opt-outs are lost in the end")));
    }
    tally.add(answered.len() as u64, &format!("seed {seed}"), &found);
}

/// Everybody gets a message of each, which needs no consent.
const PLAYBOOKS: [&str; 4] = ["one", "two", "three", "four"];

/// P9, one seed: people opt out as soon as they have the first of four messages. Whether a message may go is asked after the mail
/// server said that it may come; if it said so after the opt-out was answered, nothing may come.
fn opted_out_meanwhile(store: &Store, seed: u64, count: usize, tally: &mut Tally) {
    let provider = Provider::slow(seed, Duration::from_millis(20));
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let playbook = stage.folder.read("playbooks/hello.yml").replace("purpose: offers", "purpose: tips");
    for name in PLAYBOOKS {
        // The same words would go to nobody twice in a day.
        let words = TEMPLATE.replacen("Hello", name, 1);
        stage
            .folder
            .write(
                &format!("playbooks/{name}.yml"),
                &playbook.replace("send: hello", &format!("send: {name}")),
            )
            .write(&format!("templates/{name}.mjml"), &words);
    }
    std::fs::remove_file(stage.folder.path().join("playbooks/hello.yml")).unwrap();
    stage.folder.write("policy.yml", "purposes:\n  tips: {title: Tips, class: lifecycle}\n");
    let mut nodes = Nodes::start(&stage, count);
    let ports: Vec<u16> = (0..count).map(|node| nodes.public(node)).collect();
    let begun = Instant::now();
    while stage.ask("select count(*) from delivery") != (PEOPLE * PLAYBOOKS.len()).to_string() {
        assert!(begun.elapsed() < PATIENCE, "{}", nodes.log());
        provider.wait(u64::MAX, Duration::from_millis(50));
    }
    let people = numbers(&stage);
    let open = "select count(*) from delivery where state in ('pending', 'leased', 'armed')";
    let (mut seen, mut asked, mut pressed) = (0, BTreeSet::new(), Vec::new());
    loop {
        let taken = provider.wait_for(seen + 1, Duration::from_millis(300));
        if taken == seen && stage.ask(open) == "0" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", nodes.log());
        for message in provider.taken()[seen..taken].iter().cloned() {
            // Every second person, and each once: whoever has a first message still has three to come.
            let who = people[&message.delivery];
            if derived(seed, 1_000 + who) % 2 == 0 && asked.insert(who) {
                let port = ports[usize::try_from(who).unwrap() % count];
                pressed.push(press(port, vec![message]));
            }
        }
        seen = taken;
    }
    let answers = pressed.into_iter().flatten();
    let answers: BTreeMap<u64, Instant> =
        answers.filter_map(|(message, when)| Some((people[&message.delivery], when?))).collect();
    let mut found = Vec::new();
    if answers.len() < asked.len() {
        found.push(Found::Otherwise(format!("{} of {} were answered", answers.len(), asked.len())));
    }
    for taken in provider.taken() {
        let late =
            answers.get(&people[&taken.delivery]).map(|when| taken.began.saturating_duration_since(*when));
        if let Some(late) = late.filter(|late| !late.is_zero()) {
            let what = format!(
                "{} was handed over, and begun {late:?} after its person had opted out",
                taken.delivery
            );
            found.push(Found::Otherwise(what));
        }
    }
    let kept: u64 = stage.ask("select count(*) from delivery where state = 'suppressed'").parse().unwrap();
    nodes.end();
    let verified = stage.folder.run(&["audit", "verify"]);
    if verified.code != 0 {
        found.push(Found::Audit(verified.err));
    }
    tally.add(kept, &format!("seed {seed}"), &found);
}

/// Whose message each is.
fn numbers(stage: &Stage<'_>) -> BTreeMap<String, u64> {
    let rows = stage.ask("select id || ' ' || profile from delivery");
    let pair = |line: &str| line.split_once(' ').map(|(id, number)| (id.to_owned(), number.parse().unwrap()));
    rows.lines().filter_map(pair).collect()
}

#[test]
fn an_answered_opt_out_outlives_a_kill_over_sqlite() {
    try_seeds("P10", Store::sqlite, 30, answered_and_killed);
}

#[test]
fn an_answered_opt_out_outlives_a_kill_over_postgres() {
    try_seeds("P10", Store::postgres, 30, answered_and_killed);
}

#[test]
fn nothing_is_handed_over_after_an_opt_out_over_sqlite() {
    try_seeds("P9", Store::sqlite, 60, |store, seed, tally| opted_out_meanwhile(store, seed, 1, tally));
}

#[test]
fn nothing_is_handed_over_after_an_opt_out_over_postgres() {
    try_seeds("P9", Store::postgres, 60, |store, seed, tally| opted_out_meanwhile(store, seed, 3, tally));
}
