//! Audiences: what is handed over is remembered, what is refused is kept, and a no is seen at once.

use jiff::Timestamp;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, Suppression, SuppressionSubject};
use model::id::{AddressHash, IdentityHash};
use model::policy::Channel;
use model::sync::{AudienceAt, Entry, Has, Todo};
use model::{AudienceName, DestinationName, ProfileNumber, Reason, Refusal, SyncName};
use state::audience::{self, EntryKey, Put, Said};
use state::sync::{self, SyncRun};
use state::{State, Tx, consent};

use crate::world::{at, people};

fn where_it_is() -> AudienceAt {
    AudienceAt { destination: DestinationName::known("meta"), name: AudienceName::known("power_users") }
}

fn key(profile: u32, identity: &str) -> EntryKey {
    EntryKey { audience: 1, profile: ProfileNumber(profile), identity: IdentityHash::known(identity) }
}

fn wants(profile: u32, identity: &str, todo: Todo) -> Put {
    Put {
        key: key(profile, identity),
        address: Some(AddressHash::known(format!("address{profile}"))),
        sealed: identity.as_bytes().to_vec(),
        todo,
        reason: Reason::OkDue,
    }
}

/// An audience, and people.
async fn begin(state: &State) -> Tx {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 4).await;
    let made = audience::find_or_make(&mut tx, &where_it_is(), at(1)).await.unwrap();
    assert_eq!((made.number, made.remote, made.failures), (1, None, 0));
    tx
}

async fn of(tx: &mut Tx, profile: u32) -> Vec<(String, Todo, Has)> {
    let number = ProfileNumber(profile);
    let found = tx.ask(audience::entries(1, &[number])).await.unwrap().remove(&number).unwrap_or_default();
    let mut found: Vec<_> = found
        .into_iter()
        .map(|Entry { identity, todo, has, .. }| (identity.to_string(), todo, has))
        .collect();
    found.sort();
    found
}

async fn work(tx: &mut Tx, todo: Todo) -> Vec<u32> {
    let found = audience::work(tx, 1, todo, true, None, 10).await.unwrap();
    found.into_iter().map(|work| work.key.profile.0).collect()
}

pub(crate) async fn an_audience_is_made_once_and_remembers_its_id(state: &State) {
    let mut tx = begin(state).await;
    assert_eq!(audience::find_or_make(&mut tx, &where_it_is(), at(2)).await.unwrap().number, 1);
    audience::is_called(&mut tx, 1, "900").await.unwrap();
    audience::try_at(&mut tx, 1, at(60), 3).await.unwrap();
    let found = audience::find(&mut tx, &where_it_is()).await.unwrap().unwrap();
    assert_eq!((found.remote.as_deref(), found.due_at, found.failures), (Some("900"), at(60), 3));
    let other = AudienceAt { name: AudienceName::known("others"), ..where_it_is() };
    assert_eq!(audience::find_or_make(&mut tx, &other, at(2)).await.unwrap().number, 2);
    assert_eq!(audience::all(&mut tx).await.unwrap().len(), 2);
}

pub(crate) async fn what_is_handed_over_is_remembered_until_it_is_gone(state: &State) {
    let mut tx = begin(state).await;
    audience::put(&mut tx, &[wants(1, "a", Todo::Add), wants(2, "b", Todo::Add)], at(2)).await.unwrap();
    assert_eq!(work(&mut tx, Todo::Add).await, [1, 2]);
    let sealed = audience::work(&mut tx, 1, Todo::Add, true, Some(&key(1, "a")), 10).await.unwrap();
    assert_eq!((sealed.len(), &sealed[0].sealed[..]), (1, &b"b"[..]));
    audience::hand_over(&mut tx, &[key(1, "a"), key(2, "b")]).await.unwrap();
    audience::forget(&mut tx, &[key(1, "a")]).await.unwrap();
    assert_eq!(of(&mut tx, 1).await, [("a".to_owned(), Todo::Add, Has::Maybe)], "it may be there");
    let said = [(key(1, "a"), Said::In), (key(2, "b"), Said::Refused(Has::No, Reason::FailRemote4xx))];
    audience::settle(&mut tx, Todo::Add, &said, at(3)).await.unwrap();
    assert_eq!(of(&mut tx, 1).await, [("a".to_owned(), Todo::Nothing, Has::Yes)]);
    assert_eq!(of(&mut tx, 2).await, [("b".to_owned(), Todo::Rejected, Has::No)]);
    let counts = audience::counts(&mut tx, 1).await.unwrap();
    assert_eq!((counts.has(Has::Yes), counts.todo(Todo::Rejected)), (1, 1));
    let remove = Put { reason: Reason::ConsentWithdrawn, ..wants(1, "a", Todo::OptOut) };
    audience::put(&mut tx, &[remove], at(4)).await.unwrap();
    let [one] = &audience::of_profile(&mut tx, ProfileNumber(1)).await.unwrap()[..] else { panic!("one") };
    assert_eq!((one.todo, one.has, one.reason), (Todo::OptOut, Has::Yes, Reason::ConsentWithdrawn));
    audience::hand_over(&mut tx, &[key(1, "a")]).await.unwrap();
    audience::settle(&mut tx, Todo::OptOut, &[(key(1, "a"), Said::Nothing(Has::Yes))], at(5)).await.unwrap();
    assert_eq!(of(&mut tx, 1).await, [("a".to_owned(), Todo::OptOut, Has::Yes)], "it was not reached");
    audience::settle(&mut tx, Todo::OptOut, &[(key(1, "a"), Said::Out)], at(6)).await.unwrap();
    assert_eq!(of(&mut tx, 1).await, []);
    let listed = audience::listed(&mut tx, 1, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.key.profile.0).collect::<Vec<_>>(), [2]);
    assert_eq!(audience::people(&mut tx, 1).await.unwrap().iter().collect::<Vec<_>>(), [2]);
}

pub(crate) async fn what_changed_while_it_was_asked_stays_to_be_done(state: &State) {
    let mut tx = begin(state).await;
    audience::put(&mut tx, &[wants(1, "a", Todo::Add), wants(2, "b", Todo::Remove)], at(2)).await.unwrap();
    audience::hand_over(&mut tx, &[key(1, "a"), key(2, "b")]).await.unwrap();
    audience::put(&mut tx, &[wants(1, "a", Todo::OptOut), wants(2, "b", Todo::Add)], at(3)).await.unwrap();
    audience::settle(&mut tx, Todo::Add, &[(key(1, "a"), Said::In)], at(4)).await.unwrap();
    audience::settle(&mut tx, Todo::Remove, &[(key(2, "b"), Said::Out)], at(4)).await.unwrap();
    assert_eq!(of(&mut tx, 1).await, [("a".to_owned(), Todo::OptOut, Has::Yes)]);
    assert_eq!(of(&mut tx, 2).await, [("b".to_owned(), Todo::Add, Has::No)]);
    // Who said no meanwhile, and may be in, is to be removed, though adding them again was refused.
    audience::put(&mut tx, &[wants(3, "c", Todo::Add)], at(5)).await.unwrap();
    audience::hand_over(&mut tx, &[key(3, "c")]).await.unwrap();
    audience::put(&mut tx, &[wants(3, "c", Todo::OptOut)], at(6)).await.unwrap();
    let refused = [(key(3, "c"), Said::Refused(Has::Maybe, Reason::FailRemote4xx))];
    audience::settle(&mut tx, Todo::Add, &refused, at(7)).await.unwrap();
    assert_eq!(of(&mut tx, 3).await, [("c".to_owned(), Todo::OptOut, Has::Maybe)]);
}

pub(crate) async fn the_old_waits_for_the_new_and_what_another_has_stays(state: &State) {
    let mut tx = begin(state).await;
    let puts = [
        wants(1, "old", Todo::Remove),
        wants(1, "new", Todo::Add),
        wants(2, "shared", Todo::Remove),
        wants(3, "shared", Todo::Add),
        wants(4, "d", Todo::Leaves),
    ];
    audience::put(&mut tx, &puts, at(2)).await.unwrap();
    let keys = [key(1, "old"), key(2, "shared"), key(3, "shared"), key(4, "d")];
    audience::hand_over(&mut tx, &keys).await.unwrap();
    assert_eq!(work(&mut tx, Todo::Remove).await, [2], "the old one waits");
    let where_nobody_is_added = audience::work(&mut tx, 1, Todo::Remove, false, None, 10).await.unwrap();
    assert_eq!(where_nobody_is_added.len(), 2);
    assert_eq!(audience::forget_shared(&mut tx, 1).await.unwrap(), 1);
    assert_eq!(work(&mut tx, Todo::Remove).await, Vec::<u32>::new());
    audience::settle(&mut tx, Todo::Add, &[(key(1, "new"), Said::In)], at(3)).await.unwrap();
    assert_eq!(work(&mut tx, Todo::Remove).await, [1]);
    assert_eq!(audience::leaving(&mut tx, 1).await.unwrap(), (3, 1));
    assert_eq!(audience::let_leave(&mut tx, 1).await.unwrap(), 1);
    assert_eq!(work(&mut tx, Todo::Remove).await, [1, 4]);
    assert_eq!(audience::distrust(&mut tx, 1, at(4)).await.unwrap(), 2);
    assert_eq!(of(&mut tx, 1).await[0], ("new".to_owned(), Todo::Add, Has::Maybe));
}

/// Somebody's word on ads.
fn said(profile: u32, status: ConsentStatus, when: Timestamp) -> ConsentEvent {
    ConsentEvent {
        profile: ProfileNumber(profile),
        channel: Some(Channel::Ads),
        purpose: None,
        status,
        changed_at: when,
        recorded_at: when,
        origin: ConsentOrigin::Local,
        source: "form".to_owned(),
        evidence: None,
    }
}

pub(crate) async fn whoever_says_no_is_doubtful_at_once(state: &State) {
    let mut tx = begin(state).await;
    let puts: Vec<Put> = (1..=4).map(|profile| wants(profile, &format!("i{profile}"), Todo::Add)).collect();
    audience::put(&mut tx, &puts, at(2)).await.unwrap();
    consent::record(&mut tx, &said(1, ConsentStatus::Withdrawn, at(3))).await.unwrap();
    consent::record(&mut tx, &said(4, ConsentStatus::Granted, at(3))).await.unwrap();
    consent::import(&mut tx, &[said(2, ConsentStatus::Withdrawn, at(3))]).await.unwrap();
    let suppression = Suppression {
        subject: SuppressionSubject::Address(AddressHash::known("address3")),
        channel: None,
        reason: Reason::Complaint,
        since: at(3),
        source: "provider".to_owned(),
        spares_transactional: false,
    };
    consent::suppress(&mut tx, &suppression).await.unwrap();
    let doubtful = audience::doubtful(&mut tx, 10).await.unwrap();
    let numbers: Vec<u32> = doubtful.iter().map(|(key, _)| key.profile.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(doubtful[2].1, Some(AddressHash::known("address3")));
    audience::looked_at(&mut tx, &[key(1, "i1"), key(2, "i2"), key(3, "i3")]).await.unwrap();
    assert_eq!(audience::doubtful(&mut tx, 10).await.unwrap(), []);
    let addresses = tx.ask(audience::addresses(1, &[ProfileNumber(2)])).await.unwrap();
    assert_eq!(addresses, [(ProfileNumber(2), Some(AddressHash::known("address2")))]);
}

pub(crate) async fn the_last_run_of_a_sync_is_kept(state: &State) {
    let mut tx = begin(state).await;
    let name = SyncName::known("power_users");
    assert_eq!(sync::last_run(&mut tx, &name).await.unwrap(), None);
    let run = SyncRun {
        sync: name.clone(),
        definition: "d".to_owned(),
        as_of: at(10),
        wanted: 7,
        left_out: [(Reason::ConsentAbsent, 2)].into(),
        held: Some(Refusal { reason: Reason::MassRemoval, saw: "5 of 7".to_owned() }),
    };
    sync::keep_run(&mut tx, &run).await.unwrap();
    assert_eq!(sync::last_run(&mut tx, &name).await.unwrap(), Some((run.clone(), Some(at(10)))));
    sync::make_due(&mut tx, &name).await.unwrap();
    assert_eq!(sync::last_run(&mut tx, &name).await.unwrap(), Some((run.clone(), None)));
    let later = SyncRun { as_of: at(20), held: None, ..run };
    sync::keep_run(&mut tx, &later).await.unwrap();
    assert_eq!(sync::last_run(&mut tx, &name).await.unwrap(), Some((later, Some(at(20)))));
}
