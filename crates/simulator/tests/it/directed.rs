//! One message and one thing that happens at the worst moment.

use std::cell::Cell;

use connector::Outcome;
use jiff::{SignedDuration, Timestamp};
use model::consent::ConsentStatus;
use model::delivery::Tally;
use model::{DeliveryState, DestinationName, PlaybookName, Reason, SegmentName};
use simulator::composed::Moment;
use simulator::composed::bench::{Bench, elsewhere, no};
use state::StateError;
use state::control::HaltScope;
use state::outbox::As;

fn start() -> Timestamp {
    "2026-03-03T09:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_hours(hours)).unwrap()
}

#[test]
fn without_anything_in_between_the_message_goes_once() {
    let bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    assert_eq!(bench.pump(start()).unwrap(), 1);
    assert_eq!(bench.pump(after(1)).unwrap(), 0);
    assert_eq!(bench.handed().len(), 1);
    assert_eq!(bench.rows().unwrap()[0].delivery.state, DeliveryState::Accepted);
}

#[test]
fn a_pass_that_takes_long_does_what_was_due_when_it_began() {
    let bench = Bench::following(start(), &[SignedDuration::ZERO, SignedDuration::from_mins(30)]).unwrap();
    // Hours go by while it hands over: long enough for the wait to be over before the pass is.
    let reads = Cell::new(0);
    let clock = || after(reads.replace(reads.get() + 1));
    bench.run_once(clock).unwrap();
    assert!(reads.get() > 2, "the clock was to be read while the pass ran");
    assert_eq!(
        bench.handed().len(),
        2,
        "what follows at once goes in the same pass, what is to wait does not"
    );
    bench.run_once(start).unwrap();
    assert_eq!(bench.handed(), [], "a second pass at the same time finds nothing to do");
    bench.run_once(|| after(1)).unwrap();
    assert_eq!(bench.handed().len(), 1, "the wait began when the pass did");
}

#[test]
fn an_opt_out_between_rendering_and_arming_is_seen() {
    let bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    let dir = bench.dir().to_owned();
    bench.listen(Box::new(move |moment, item| {
        if moment == Moment::Envelope {
            let event = no(item.profile, start());
            elsewhere(&dir, async |tx| state::consent::record(tx, &event).await).unwrap();
        }
        None
    }));
    bench.pump(start()).unwrap();
    assert_eq!(bench.handed(), []);
    let row = &bench.rows().unwrap()[0].delivery;
    assert_eq!((row.state, row.reason), (DeliveryState::Suppressed, Reason::ConsentWithdrawn));
}

#[test]
fn an_old_list_imported_again_does_not_overturn_a_no() {
    let bench = Bench::new(start()).unwrap();
    // Decided while she said yes; she says no, and the warehouse, which does not know, says yes again and later.
    bench.tick(start()).unwrap();
    let number = bench.rows().unwrap()[0].delivery.profile;
    bench.write(async |tx| state::consent::record(tx, &no(number, start())).await).unwrap();
    bench.warehouse_says(ConsentStatus::Granted, after(1));
    bench.tick(after(2)).unwrap();
    bench.pump(after(2)).unwrap();
    assert_eq!(bench.handed(), [], "an old list was believed");
}

#[test]
fn a_claim_whose_lease_went_to_another_arms_nothing() {
    let bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    let dir = bench.dir().to_owned();
    bench.listen(Box::new(move |moment, _| {
        if moment == Moment::Envelope {
            let claimed = elsewhere(&dir, async |tx| {
                let another = state::Node::alone("another");
                state::node::bury(tx, &another, 0).await?;
                state::outbox::void_leases(tx, start()).await?;
                let mail = DestinationName::known("mail");
                state::outbox::claim(
                    tx,
                    &state::outbox::Claim {
                        due: state::outbox::Due::Suspect,
                        destination: &mail,
                        now: start(),
                        limit: 10,
                        except: &[],
                        lease_now: 0,
                        lease_ms: i64::from(u32::MAX),
                    },
                    state::rate::Rates::default(),
                    &another,
                )
                .await
            });
            assert_eq!(claimed.unwrap().rows.len(), 1, "the other has the lease");
        }
        None
    }));
    bench.pump(start()).unwrap();
    assert_eq!(bench.handed(), [], "a stale claim was armed");
}

#[test]
fn what_processes_die_with_is_left_out_after_the_third() {
    let mut bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    // Leased, and then nothing more is heard of it.
    bench.listen(Box::new(|moment, _| (moment == Moment::Envelope).then_some(Outcome::NotArmed)));
    for death in 1..=3 {
        assert_eq!(bench.pump(start()).unwrap(), 1, "it is not tried, for the {death}. time");
        bench.restart(start()).unwrap();
    }
    let rows = bench.rows().unwrap();
    assert_eq!(rows[0].delivery.reason, Reason::FailPoison, "it is tried for ever");
    assert_eq!(bench.pump(start()).unwrap(), 0);
}

#[test]
fn what_is_armed_is_not_taken_back_by_time() {
    let mut bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    // The provider has it, and the answer is lost on the way.
    bench.listen(Box::new(|moment, _| (moment == Moment::Taken).then_some(Outcome::NotArmed)));
    bench.pump(start()).unwrap();
    for hour in 1..4 {
        bench.tick(after(hour)).unwrap();
        assert_eq!(bench.pump(after(hour)), Ok(0), "it was taken back");
    }
    bench.restart(after(5)).unwrap();
    bench.pump(after(5)).unwrap();
    assert_eq!(bench.handed().len(), 1);
    assert_eq!(bench.rows().unwrap()[0].delivery.state, DeliveryState::InDoubt);
}

#[test]
fn a_decision_that_comes_late_sends_nothing_again() {
    let bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    let decided = bench.rows().unwrap().remove(0).delivery;
    bench.pump(start()).unwrap();
    bench
        .write(async |tx| state::delivery::decide(tx, std::slice::from_ref(&decided), after(1)).await)
        .unwrap();
    bench.pump(after(1)).unwrap();
    assert_eq!(bench.handed().len(), 1, "it was sent again");
    assert_eq!(bench.rows().unwrap()[0].delivery.state, DeliveryState::Accepted);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut bench = Bench::new(start()).unwrap();
    let refused = bench.second(start()).unwrap_err();
    assert!(matches!(refused, daemon::DaemonError::State(StateError::AlreadyRunning)), "{refused}");
    // The lock goes with its process.
    bench.restart(start()).unwrap();
}

#[test]
fn a_doubt_that_a_person_sends_again_goes_again() {
    let bench = Bench::new(start()).unwrap();
    bench.tick(start()).unwrap();
    let mut first = true;
    bench.listen(Box::new(move |moment, _| {
        let lost = moment == Moment::Taken && std::mem::take(&mut first);
        lost.then(|| Outcome::InDoubt { detail: "no answer".to_owned() })
    }));
    bench.pump(start()).unwrap();
    // The enrollment is through: a doubt counts as accepted.
    bench.tick(start()).unwrap();
    let doubt = bench.rows().unwrap().remove(0).delivery;
    assert_eq!(doubt.state, DeliveryState::InDoubt);
    bench
        .write(async |tx| {
            state::outbox::resolve(tx, &doubt.id, As::Resend, "ops", "it is not there", after(1)).await
        })
        .unwrap();
    bench.pump(after(1)).unwrap();
    assert_eq!(bench.handed().len(), 2);
    assert_eq!(bench.rows().unwrap()[0].delivery.state, DeliveryState::Accepted);
}

#[test]
fn a_segment_that_explodes_is_held_until_a_person_says_that_it_may() {
    let bench = Bench::in_production(start(), &[]).unwrap();
    bench.tick(start()).unwrap();
    bench.crowd(2_000);
    bench.tick(after(1)).unwrap();
    assert_eq!(bench.members().unwrap(), 1, "it was believed");
    let key = daemon::guards::acceptance_key(&SegmentName::known("people"));
    bench.write(async |tx| state::meta::set(tx, &key, "a fair was last week").await).unwrap();
    bench.tick(after(2)).unwrap();
    assert_eq!(bench.members().unwrap(), 2_001);
    // That was for once.
    bench.crowd(90_000);
    bench.tick(after(3)).unwrap();
    assert_eq!(bench.members().unwrap(), 2_001);
}

#[test]
fn a_playbook_that_bounces_is_halted_until_a_person_has_looked() {
    let bench = Bench::in_production(start(), &[SignedDuration::from_hours(1)]).unwrap();
    bench.tick(start()).unwrap();
    let hello = PlaybookName::known("hello");
    let bad = Tally { accepted: 940, rejected: 60, bounced: 60, ..Tally::default() };
    bench
        .write(async |tx| {
            state::tally::add(tx, &state::Node::alone("another"), &[(hello.clone(), bad)].into(), start());
            Ok(())
        })
        .unwrap();
    bench.pump(start()).unwrap();
    let halts = || bench.write(async |tx| tx.ask(state::control::halts()).await).unwrap();
    let [halt] = &halts()[..] else { panic!("nothing is halted") };
    assert_eq!((&halt.scope, &*halt.actor), (&HaltScope::Playbook(hello.clone()), "guard"));
    assert!(halt.reason.starts_with("60 of 1001 messages bounced, the guard is 3%"), "{}", halt.reason);
    bench
        .write(async |tx| {
            state::tally::forget(tx, Some(&hello)).await?;
            state::control::lift(tx, &halt.scope).await
        })
        .unwrap();
    bench.tick(after(1)).unwrap();
    bench.tick(after(2)).unwrap();
    assert_eq!(bench.pump(after(2)).unwrap(), 1);
    assert_eq!(halts(), [], "what a person has looked at halts nothing again");
}

/// P19: after a long time in which nobody ran, what should have gone meanwhile waits for a person.
#[test]
fn after_a_long_downtime_nothing_goes_by_itself_that_is_overdue() {
    let lived = |gap: SignedDuration| {
        let mut bench = Bench::in_production(start(), &[]).unwrap();
        bench.tick(start()).unwrap();
        bench.write(async |tx| daemon::lateness::keep_alive_at(tx, start()).await).unwrap();
        let back = start() + gap;
        bench.restart(back).unwrap();
        bench.pump(back).unwrap();
        let went = bench.handed().len();
        let halts = bench.write(async |tx| tx.ask(state::control::halts()).await).unwrap();
        (bench, back, went, halts)
    };
    let (_, _, went, halts) = lived(SignedDuration::from_mins(9));
    assert_eq!((went, halts.len()), (1, 0), "a restart is nothing");
    let (_, _, went, halts) = lived(SignedDuration::from_mins(29));
    assert_eq!((went, halts.len()), (1, 0), "nothing is overdue");
    let (bench, back, went, halts) = lived(SignedDuration::from_hours(5));
    let [halt] = &halts[..] else { panic!("{went} went, halts: {halts:?}") };
    assert_eq!((went, &halt.scope), (0, &HaltScope::All), "went at once");
    assert!(
        halt.reason.contains("nothing ran from") && halt.reason.contains("1 messages"),
        "{}",
        halt.reason
    );
    bench.write(async |tx| state::control::lift(tx, &HaltScope::All).await).unwrap();
    bench.pump(back).unwrap();
    assert_eq!(bench.handed().len(), 1, "a person has looked");
}
