//! States to test with, and things to put into them.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use model::delivery::{Delivery, GateRecord};
use model::enrollment::{Enrollment, Progress};
use model::id::ContentHash;
use model::policy::{Channel, MessageClass, Traits};
use model::reason::Gate;
use model::{
    BrandName, DeliveryId, DeliveryState, DestinationName, EnrollmentId, PlaybookName, ProfileNumber,
    PurposeName, Reason, Secret, StepId, TemplateName,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use state::{Access, Keys, RootKey, State, Tx};
use tempfile::TempDir;

/// A state, and where it is.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) url: Secret,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn open(&self, access: Access) -> Result<State, state::StateError> {
        State::open(&self.url, self.folder.path(), access).await
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("deep/state.db")
    }

    /// Executes statements past the state, as somebody with the database's password would.
    pub(crate) async fn raw(&self, sql: &'static str) -> sqlx::Result<()> {
        if self.state.is_postgres() {
            let mut connection = PgConnection::connect(self.url.reveal()).await?;
            sqlx::raw_sql(sql).execute(&mut connection).await?;
        } else {
            sqlx::raw_sql(sql).execute(&mut self.sqlite().await).await?;
        }
        Ok(())
    }

    /// A connection of one's own to an SQLite state.
    pub(crate) async fn sqlite(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.file())
            .busy_timeout(Duration::from_secs(10))
            .connect()
            .await
            .unwrap()
    }
}

/// Most tests ask nothing of a world but its state.
impl Deref for World {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

pub(crate) async fn sqlite() -> World {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new("sqlite://deep/state.db");
    let state = State::open(&url, folder.path(), Access::Create).await.unwrap();
    World { state, url, folder }
}

pub(crate) async fn postgres() -> Option<World> {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new(tokio::task::spawn_blocking(crate::postgres::new_database).await.unwrap()?);
    State::migrate(&url, folder.path()).await.unwrap();
    let state = State::open(&url, folder.path(), Access::Create).await.unwrap();
    Some(World { state, url, folder })
}

/// Second `second` of time.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The root key of all tests.
pub(crate) fn root_key() -> RootKey {
    RootKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

pub(crate) async fn keys(tx: &mut Tx) -> Keys {
    Keys::load_or_create(tx, &root_key(), at(0)).await.unwrap()
}

/// So many people, numbered from 1.
pub(crate) async fn people(tx: &mut Tx, many: u32) -> Vec<ProfileNumber> {
    let keys = keys(tx).await;
    let ids: Vec<String> = (1..=many).map(|n| format!("person {n}")).collect();
    state::profile::intern(tx, &keys, &ids).await.unwrap().into_iter().map(Option::unwrap).collect()
}

pub(crate) fn playbook() -> PlaybookName {
    PlaybookName::known("win_back")
}

pub(crate) fn destination() -> DestinationName {
    DestinationName::known("mail")
}

/// The one enrollment of a person that tests use.
pub(crate) fn enrollment_id(profile: u32) -> EnrollmentId {
    EnrollmentId::derive("acme", &playbook(), ProfileNumber(profile), "run")
}

/// An enrollment that waits for second `wake`.
pub(crate) fn waiting(profile: u32, wake: i64) -> Enrollment {
    Enrollment {
        id: enrollment_id(profile),
        playbook: playbook(),
        version: "v1".to_owned(),
        profile: ProfileNumber(profile),
        trigger: "run".to_owned(),
        entered_at: at(1),
        holdout: None,
        progress: Progress::Waiting { step: StepId::known("hello"), since: at(1), wake_at: at(wake) },
        goal_reached_at: None,
        outcomes: BTreeMap::new(),
        entry: BTreeMap::new(),
    }
}

/// An enrollment that waits for its delivery.
pub(crate) fn sending(profile: u32) -> Enrollment {
    Enrollment {
        progress: Progress::Sending { step: StepId::known("hello"), since: at(1) },
        ..waiting(profile, 0)
    }
}

/// A pending delivery of a person, due at second 10.
pub(crate) fn delivery(profile: u32, step: &str) -> Delivery {
    let enrollment = enrollment_id(profile);
    let step = StepId::known(step);
    Delivery {
        id: DeliveryId::derive("acme", &enrollment, &step, 0),
        enrollment,
        version: "v1".to_owned(),
        step,
        profile: ProfileNumber(profile),
        traits: Traits {
            channel: Channel::Email,
            class: MessageClass::Marketing,
            purpose: PurposeName::known("offers"),
            brand: BrandName::known("acme"),
            playbook: playbook(),
        },
        destination: destination(),
        template: TemplateName::known("hello"),
        content: Some(ContentHash::known("words")),
        priority: 50,
        state: DeliveryState::Pending,
        reason: Reason::OkAccepted,
        gates: vec![
            GateRecord {
                gate: Gate::Cap,
                reason: Some(Reason::CapPerson),
                saw: "1 of 1 \"since\" 00:00\n".to_owned(),
            },
            GateRecord { gate: Gate::Time, reason: None, saw: String::new() },
        ],
        created_at: at(5),
        decided_at: at(5),
        due_at: at(10),
        expires_at: at(1000),
    }
}

/// Keeps pending deliveries, and enrollments that wait for them, of people from 1 on.
pub(crate) async fn decide(state: &State, deliveries: &[Delivery]) {
    let mut tx = state.write().await.unwrap();
    let last = deliveries.iter().map(|delivery| delivery.profile.0).max().unwrap_or(0);
    people(&mut tx, last).await;
    let mut enrollments: Vec<_> =
        deliveries.iter().map(|delivery| (sending(delivery.profile.0), None)).collect();
    enrollments.dedup_by_key(|(enrollment, _)| enrollment.profile);
    state::enrollment::put(&mut tx, &enrollments).await.unwrap();
    let many = state::delivery::decide(&mut tx, deliveries, at(5)).await.unwrap();
    assert_eq!(many, deliveries.len() as u64);
    tx.commit().await.unwrap();
}

/// A claim of what is due, for a moment, at the beginning of lease time.
pub(crate) fn claiming(
    due: state::outbox::Due,
    destination: &DestinationName,
    now: Timestamp,
    limit: u32,
) -> state::outbox::Claim<'_> {
    state::outbox::Claim { due, destination, now, limit, except: &[], lease_now: 0, lease_ms: 100 }
}
