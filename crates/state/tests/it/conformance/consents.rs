//! Consent, suppression, facts, halts and single values.

use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, Suppression, SuppressionSubject};
use model::id::AddressHash;
use model::policy::Channel;
use model::{DeliveryId, DestinationName, PlaybookName, ProfileNumber, PurposeName, Reason};
use state::control::{self, Halt, HaltScope};
use state::fact::{self, Fact, FactKind};
use state::{State, StateError, Tx, consent, meta, outbox};

use crate::world::{at, people};

fn offers() -> PurposeName {
    PurposeName::known("offers")
}

/// What the warehouse says, without evidence, recorded at second 1,000.
fn said(profile: u32, status: ConsentStatus, second: i64) -> ConsentEvent {
    ConsentEvent {
        profile: ProfileNumber(profile),
        channel: Some(Channel::Email),
        purpose: Some(offers()),
        status,
        changed_at: at(second),
        recorded_at: at(1000),
        origin: ConsentOrigin::Warehouse,
        source: "signup".to_owned(),
        evidence: None,
    }
}

fn local(event: ConsentEvent) -> ConsentEvent {
    ConsentEvent { origin: ConsentOrigin::Local, source: "one-click".to_owned(), ..event }
}

async fn status(tx: &mut Tx, profile: u32) -> ConsentStatus {
    let number = ProfileNumber(profile);
    let consents = tx.ask(consent::of_profiles(&[number])).await.unwrap().remove(&number).unwrap_or_default();
    consents.status_of(Channel::Email, &offers())
}

pub(crate) async fn an_event_is_added_once(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 2).await;
    let granted = local(said(1, ConsentStatus::Granted, 10));
    assert!(consent::record(&mut tx, &granted).await.unwrap());
    assert!(!consent::record(&mut tx, &granted).await.unwrap());
    let later = ConsentEvent { recorded_at: at(2000), evidence: Some("x".to_owned()), ..granted.clone() };
    assert!(!consent::record(&mut tx, &later).await.unwrap(), "the same thing, told again");
    let all = ConsentEvent { channel: None, purpose: None, ..local(said(1, ConsentStatus::Withdrawn, 20)) };
    assert!(consent::record(&mut tx, &all).await.unwrap());
    assert_eq!(status(&mut tx, 1).await, ConsentStatus::Withdrawn);
    assert_eq!(status(&mut tx, 2).await, ConsentStatus::Absent);
    assert_eq!(consent::history(&mut tx, ProfileNumber(1)).await.unwrap(), [granted, all]);
    let absent = consent::record(&mut tx, &said(1, ConsentStatus::Absent, 30)).await;
    assert!(matches!(absent, Err(StateError::Broken { .. })));
}

pub(crate) async fn an_import_writes_only_changes(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 3).await;
    let page = [
        said(1, ConsentStatus::Granted, 10),
        said(2, ConsentStatus::Pending, 10),
        said(2, ConsentStatus::Granted, 20),
        said(3, ConsentStatus::Granted, 5000),
    ];
    assert_eq!(consent::import(&mut tx, &page).await.unwrap(), 3, "what lies in the future does not count");
    assert_eq!(consent::import(&mut tx, &page).await.unwrap(), 0);
    assert_eq!(consent::history(&mut tx, ProfileNumber(2)).await.unwrap().len(), 2);
    assert_eq!(
        (status(&mut tx, 2).await, status(&mut tx, 3).await),
        (ConsentStatus::Granted, ConsentStatus::Absent)
    );
    let next = [said(1, ConsentStatus::Granted, 10), said(2, ConsentStatus::Withdrawn, 30)];
    assert_eq!(consent::import(&mut tx, &next).await.unwrap(), 1);
    assert_eq!(status(&mut tx, 2).await, ConsentStatus::Withdrawn);
}

pub(crate) async fn a_local_no_survives_an_old_list(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 1).await;
    consent::import(&mut tx, &[said(1, ConsentStatus::Granted, 10)]).await.unwrap();
    consent::record(&mut tx, &local(said(1, ConsentStatus::Withdrawn, 50))).await.unwrap();
    assert_eq!(consent::import(&mut tx, &[said(1, ConsentStatus::Granted, 60)]).await.unwrap(), 0);
    assert_eq!(status(&mut tx, 1).await, ConsentStatus::Withdrawn);
    let proved = ConsentEvent { evidence: Some("form 3".to_owned()), ..said(1, ConsentStatus::Granted, 70) };
    assert_eq!(consent::import(&mut tx, &[proved]).await.unwrap(), 1);
    assert_eq!(status(&mut tx, 1).await, ConsentStatus::Granted);
}

pub(crate) async fn an_import_does_not_overtake_a_no(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 1).await;
    tx.commit().await.unwrap();
    // The person says no while an import is under way; whichever commits first, no is what holds.
    let mut no = state.write().await.unwrap();
    consent::record(&mut no, &local(said(1, ConsentStatus::Withdrawn, 50))).await.unwrap();
    let import = tokio::spawn({
        let state = state.clone();
        async move {
            let mut tx = state.write().await.unwrap();
            let written = consent::import(&mut tx, &[said(1, ConsentStatus::Granted, 60)]).await.unwrap();
            tx.commit().await.unwrap();
            written
        }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
        meta::get(&mut no, "round trip").await.unwrap();
    }
    no.commit().await.unwrap();
    assert_eq!(import.await.unwrap(), 0);
    let mut tx = state.read().await.unwrap();
    assert_eq!(status(&mut tx, 1).await, ConsentStatus::Withdrawn);
}

pub(crate) async fn suppression_is_by_person_and_address(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 2).await;
    let person = SuppressionSubject::Profile(ProfileNumber(1));
    let address = SuppressionSubject::Address(AddressHash::known("abc"));
    let entry = |subject: &SuppressionSubject, reason, spares_transactional| Suppression {
        subject: subject.clone(),
        channel: Some(Channel::Email),
        reason,
        since: at(9),
        source: "bounce".to_owned(),
        spares_transactional,
    };
    let opted_out = entry(&person, Reason::OptoutChannel, true);
    let bounced = entry(&address, Reason::HardBounce, false);
    assert!(consent::suppress(&mut tx, &opted_out).await.unwrap());
    assert!(!consent::suppress(&mut tx, &opted_out).await.unwrap());
    assert!(consent::suppress(&mut tx, &bounced).await.unwrap());
    let numbers = [2, 1].map(ProfileNumber);
    let hashes = [AddressHash::known("abc"), AddressHash::known("none")];
    assert_eq!(
        tx.ask(consent::suppressions(&numbers, &hashes)).await.unwrap(),
        [opted_out.clone(), bounced.clone()]
    );
    assert_eq!(tx.ask(consent::suppressions(&[], &hashes[1..])).await.unwrap(), []);
    // Stricter wins and stays.
    assert!(consent::suppress(&mut tx, &entry(&person, Reason::OptoutChannel, false)).await.unwrap());
    assert!(!consent::suppress(&mut tx, &opted_out).await.unwrap());
    let manual = Suppression { channel: None, ..entry(&person, Reason::Manual, false) };
    assert!(consent::suppress(&mut tx, &manual).await.unwrap());
    let listed = consent::list(&mut tx, 1, None).await.unwrap();
    assert_eq!(listed, [bounced], "subject by subject");
    assert_eq!(consent::list(&mut tx, 9, Some(&address)).await.unwrap().len(), 2);
    // Lifting one leaves the other.
    assert!(
        consent::unsuppress(&mut tx, &person, Some(Channel::Email), Some(Reason::OptoutChannel))
            .await
            .unwrap()
    );
    assert!(!consent::unsuppress(&mut tx, &person, Some(Channel::Email), None).await.unwrap());
    assert_eq!(tx.ask(consent::suppressions(&numbers, &[])).await.unwrap(), [manual]);
}

async fn opt_out(state: State, subject: SuppressionSubject) {
    let mut tx = state.write().await.unwrap();
    let entry = Suppression {
        subject,
        channel: None,
        reason: Reason::Manual,
        since: at(9),
        source: String::new(),
        spares_transactional: false,
    };
    consent::suppress(&mut tx, &entry).await.unwrap();
    tx.commit().await.unwrap();
}

pub(crate) async fn suppressing_waits_for_the_armer(state: &State) {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 1).await;
    tx.commit().await.unwrap();
    for subject in [
        SuppressionSubject::Profile(ProfileNumber(1)),
        SuppressionSubject::Address(AddressHash::known("abc")),
    ] {
        // The armer has looked, and not committed yet.
        let mut armer = state.write().await.unwrap();
        outbox::lock_profiles(&mut armer, &[ProfileNumber(1)]).await.unwrap();
        outbox::lock_addresses(&mut armer, &[AddressHash::known("abc")]).await.unwrap();
        let looked = armer
            .ask(consent::suppressions(&[ProfileNumber(1)], &[AddressHash::known("abc")]))
            .await
            .unwrap()
            .len();
        let opted_out = tokio::spawn(opt_out(state.clone(), subject));
        for _ in 0..10 {
            tokio::task::yield_now().await;
            meta::get(&mut armer, "round trip").await.unwrap();
            if state.is_postgres() {
                // However slow the machine is: whoever does the same later, and waits for nobody, is through, and so would the first be.
                let other = SuppressionSubject::Address(AddressHash::known("other"));
                opt_out(state.clone(), other).await;
            }
            assert!(
                !opted_out.is_finished(),
                "an opt-out returned before what it should have stopped was armed"
            );
        }
        let again = armer
            .ask(consent::suppressions(&[ProfileNumber(1)], &[AddressHash::known("abc")]))
            .await
            .unwrap()
            .len();
        assert_eq!(again, looked);
        armer.commit().await.unwrap();
        opted_out.await.unwrap();
    }
}

pub(crate) async fn facts_halts_and_values_are_kept(state: &State) {
    let mut tx = state.write().await.unwrap();
    let told = Fact {
        profile: ProfileNumber(1),
        kind: FactKind::Bounced,
        at: at(7),
        delivery: Some(DeliveryId::known("d")),
        source: "smtp".to_owned(),
        source_id: "d/1".to_owned(),
    };
    let other = Fact {
        kind: FactKind::Clicked,
        at: at(8),
        delivery: None,
        source_id: "2".to_owned(),
        ..told.clone()
    };
    assert!(fact::add(&mut tx, &told).await.unwrap());
    assert!(!fact::add(&mut tx, &Fact { at: at(9), ..told.clone() }).await.unwrap());
    assert!(fact::add(&mut tx, &other).await.unwrap());
    assert_eq!(fact::of_profile(&mut tx, ProfileNumber(1), 9).await.unwrap(), [other, told]);
    let halt = |scope| Halt { scope, reason: "why".to_owned(), actor: "ana".to_owned(), at: at(3) };
    let halts = [
        halt(HaltScope::All),
        halt(HaltScope::Destination(DestinationName::known("mail"))),
        halt(HaltScope::Playbook(PlaybookName::known("win_back"))),
    ];
    for one in &halts {
        assert!(control::halt(&mut tx, one).await.unwrap());
        assert!(!control::halt(&mut tx, one).await.unwrap());
    }
    assert_eq!(tx.ask(control::halts()).await.unwrap(), halts);
    assert!(control::lift(&mut tx, &HaltScope::All).await.unwrap());
    assert!(!control::lift(&mut tx, &HaltScope::All).await.unwrap());
    assert_eq!(tx.ask(control::halts()).await.unwrap(), halts[1..]);
    assert_eq!(meta::get(&mut tx, "last_tick_ms").await.unwrap(), None);
    for value in ["1", "2"] {
        meta::set(&mut tx, "last_tick_ms", value).await.unwrap();
        assert_eq!(meta::get(&mut tx, "last_tick_ms").await.unwrap().as_deref(), Some(value));
    }
}
