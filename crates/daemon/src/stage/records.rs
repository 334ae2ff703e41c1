//! COMPARE of records: what is to stand in them by the warehouse, against what was written. Nothing is handed over here, and nothing read there.

use std::collections::{BTreeMap, BTreeSet};

use engine::judge_removal;
use engine::record::{FieldValues, PlannedEntry, Wanted, plan_entries};
use jiff::Timestamp;
use message::Scope;
use model::fault::mutant;
use model::id::IdentityHash;
use model::profile::Profile;
use model::query::Query;
use model::sync::{RecordOf, RecordSync, RecordTodo, Sync, SyncFrom};
use model::{ProfileNumber, Reason, Refusal, Value};
use project::RecordTexts;
use roaring::RoaringBitmap;
use serde_json::{Value as Json, json};
use state::record::{Put, RecordKey};

use super::compare::{acceptance, everybody, keep};
use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::people;
use crate::records::{Content, seal};
use crate::report::{KeptAt, SyncReport};
use crate::source::{PAGE_LIMIT, PAGE_ROWS, RowsById, View};

/// One comparison under way.
struct Comparison<'a> {
    daemon: &'a Daemon,
    sync: &'a Sync,
    record: &'a RecordSync,
    texts: &'a RecordTexts,
    set: u32,
    now: Timestamp,
    wanted: u64,
    left_out: BTreeMap<Reason, u64>,
}

/// Whose record it may be, and what is known of them; `None`: they are not asked for, or gone.
type Asked = Vec<(RecordOf, Option<Profile>)>;

/// Compares the records of a sync with the warehouse. `None`: it stands still, or its destination has no records in this process.
pub(super) async fn compare(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    (sync, record): (&Sync, &RecordSync),
    now: Timestamp,
) -> Result<Option<SyncReport>, DaemonError> {
    let driver = daemon.carriers.get(&record.at.destination).and_then(|carrier| carrier.names());
    let has_records = driver.is_some_and(|driver| driver.records().is_some());
    let Some(texts) = daemon.project.record_texts.get(&sync.name).filter(|_| has_records) else {
        return Ok(None);
    };
    let mut tx = daemon.deciding().await?;
    let set = state::record::find_or_make(&mut tx, &sync.name, &record.at, now).await?;
    tx.commit().await?;
    if set.reverted_at.is_some() {
        return Ok(None);
    }
    let left_out = BTreeMap::new();
    let mut comparison =
        Comparison { daemon, sync, record, texts, set: set.number, now, wanted: 0, left_out };
    match &sync.from {
        SyncFrom::Accounts => comparison.accounts(view).await?,
        SyncFrom::Profiles => {
            let source = everybody(daemon, view).await?;
            comparison.people(view, &source).await?;
        }
        SyncFrom::Segment(name) => {
            let source = surroundings.members.now.get(name).cloned().unwrap_or_default();
            comparison.people(view, &source).await?;
        }
    }
    comparison.finish().await.map(Some)
}

impl Comparison<'_> {
    /// The query of accounts, where the records hold something of them.
    fn accounts_query(&self) -> Option<&Query> {
        let all = self.texts.key.used().iter().chain(self.texts.fields.used());
        let mut roots = all.map(|used| used.root.as_str());
        self.daemon.project.data.accounts.as_ref().filter(|_| roots.any(|root| root == "account"))
    }

    async fn people(&mut self, view: &mut View, source: &RoaringBitmap) -> Result<(), DaemonError> {
        let mut known = RoaringBitmap::new();
        for of in self.known().await? {
            match of {
                RecordOf::Profile(number) => drop(known.insert(number.0)),
                // Of another `from`, before the file was changed.
                RecordOf::Account(_) => self.page(vec![(of, None)]).await?,
            }
        }
        let all: Vec<ProfileNumber> = (source | &known).iter().map(ProfileNumber).collect();
        for numbers in all.chunks(PAGE_ROWS) {
            let mut tx = self.daemon.state.read().await?;
            let asked: Vec<ProfileNumber> =
                numbers.iter().copied().filter(|number| source.contains(number.0)).collect();
            let ids = state::profile::ids_of(&mut tx, &asked).await?;
            drop(tx);
            let query = &self.daemon.project.data.profiles;
            let mut rows = people::profiles(view, query, self.accounts_query(), &ids).await?;
            let page = numbers.iter().map(|number| (RecordOf::Profile(*number), rows.remove(number)));
            self.page(page.collect()).await?;
        }
        Ok(())
    }

    async fn accounts(&mut self, view: &mut View) -> Result<(), DaemonError> {
        let Some(query) = self.daemon.project.data.accounts.as_ref() else { return Ok(()) };
        let mut seen = BTreeSet::new();
        let mut pages: Vec<RowsById> = Vec::new();
        // Pages are kept until the view is done with: what follows of each is written by a transaction of its own.
        view.account_pages(query, async |page| {
            pages.push(page.into_iter().collect());
            Ok(())
        })
        .await?;
        for page in pages {
            let mut asked = Asked::new();
            for (id, mut columns) in page {
                let of = RecordOf::Account(self.daemon.keys.account_hash(&id));
                seen.insert(of.clone());
                columns.insert("id".to_owned(), Value::Text(id.clone()));
                let nobody = ProfileNumber(0);
                let account = std::sync::Arc::new(columns);
                asked.push((of, Some(Profile { number: nobody, id, attributes: BTreeMap::new(), account })));
            }
            self.page(asked).await?;
        }
        let gone: Asked =
            self.known().await?.into_iter().filter(|of| !seen.contains(of)).map(|of| (of, None)).collect();
        for page in gone.chunks(PAGE_ROWS) {
            self.page(page.to_vec()).await?;
        }
        Ok(())
    }

    /// Everything that has an entry.
    async fn known(&self) -> Result<Vec<RecordOf>, DaemonError> {
        let mut tx = self.daemon.state.read().await?;
        let mut all: Vec<RecordOf> = Vec::new();
        loop {
            let page = state::record::subjects(&mut tx, self.set, all.last(), PAGE_LIMIT).await?;
            let is_last = page.len() < PAGE_ROWS;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Decides about some of them, and writes what follows.
    async fn page(&mut self, asked: Asked) -> Result<(), DaemonError> {
        let of: Vec<RecordOf> = asked.iter().map(|(of, _)| of.clone()).collect();
        let mut tx = self.daemon.state.read().await?;
        let mut entries = state::record::entries(&mut tx, self.set, &of).await?;
        drop(tx);
        let (mut puts, mut forgotten) = (Vec::new(), Vec::new());
        for (of, profile) in asked {
            let made = profile.as_ref().map(|profile| self.make(profile));
            let content = match made {
                None => Err((Reason::SegmentLeft, true)),
                Some(Err(refusal)) => Err((refusal.reason, false)),
                Some(Ok(content)) => {
                    let key = self.daemon.keys.identity_hash(&connector::same_key(&content.key));
                    let digest = self.daemon.keys.identity_hash(&content.to_text(self.record.on_edit));
                    Ok((content, key, digest))
                }
            };
            match &content {
                Ok(_) => self.wanted += 1,
                Err((reason, false)) => *self.left_out.entry(*reason).or_default() += 1,
                Err((_, true)) => {}
            }
            let wanted = match &content {
                Ok((_, key, digest)) => Wanted::Record(key, digest.as_str()),
                Err((reason, false)) => Wanted::Unmade(*reason),
                Err((reason, true)) => Wanted::Gone(*reason),
            };
            let own = entries.remove(&of).unwrap_or_default();
            let key_of = |key: IdentityHash| RecordKey { of: of.clone(), key };
            for planned in plan_entries(&own, wanted, self.record.gone) {
                match planned {
                    PlannedEntry::Forget { key } => forgotten.push(key_of(key)),
                    PlannedEntry::Put { key, todo, reason, is_new } => {
                        let content = match &content {
                            Ok((content, _, digest)) if is_new => {
                                Some((digest.as_str().to_owned(), seal(self.daemon, content)?))
                            }
                            _ => None,
                        };
                        puts.push(Put { key: key_of(key), content, todo, reason });
                    }
                }
            }
        }
        if puts.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let mut tx = self.daemon.deciding().await?;
        for puts in puts.chunks(PAGE_ROWS) {
            state::record::put(&mut tx, self.set, puts, self.now).await?;
        }
        state::record::forget(&mut tx, self.set, &forgotten).await?;
        model::fault::point("compare.before_commit");
        tx.commit().await?;
        Ok(())
    }

    /// What is to stand in somebody's record.
    fn make(&self, profile: &Profile) -> Result<Content, Refusal> {
        let settings = &self.daemon.project.settings;
        let locale = settings.locales.first().map_or("en", String::as_str);
        let nothing = BTreeMap::new();
        let scope = Scope {
            profile: &profile.attributes,
            profile_id: &profile.id,
            account: &profile.account,
            entry: &nothing,
            with: &nothing,
            playbook_name: "",
            playbook_title: "",
            step: "",
            brand_title: "",
            locale,
            default_locale: locale,
            zone: &settings.timezone,
            now: self.now,
            unsubscribe_url: None,
            preferences_url: None,
            postal_address: None,
        };
        let key = self.texts.key.render(&scope)?.remove(&self.record.at.key).unwrap_or_default();
        let key = match key {
            Json::Null => {
                let saw = format!("`{}`, by which the record is found, has no value", self.record.at.key);
                return Err(Refusal { reason: Reason::VarMissing, saw });
            }
            Json::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let fields: FieldValues = self.texts.fields.render(&scope)?;
        let account = matches!(self.sync.from, SyncFrom::Accounts).then(|| profile.id.clone());
        Ok(Content { key, fields, account })
    }

    /// Judges whether those who leave may be emptied, and keeps what the run came to.
    async fn finish(self) -> Result<SyncReport, DaemonError> {
        let Self { daemon, sync, record, set, now, wanted, left_out, .. } = self;
        let mut tx = daemon.deciding().await?;
        state::record::refuse_rivals(&mut tx, set).await?;
        let (all, leaving) = state::record::leaving(&mut tx, set).await?;
        let judged = judge_removal(sync.removal, all, leaving, ("records", "emptied"));
        let held = judged.err().filter(|_| !mutant("clearing_unheld"));
        let held = acceptance(&mut tx, sync, leaving, held).await?;
        if held.is_none() {
            state::record::let_leave(&mut tx, set).await?;
        }
        let counts = state::record::counts(&mut tx, set).await?;
        let todo = json!({
            "object": record.at.object, "write": counts.todo(RecordTodo::Write), "clear": counts.todo(RecordTodo::Clear),
        });
        let at = KeptAt::Records(record.at.clone());
        let report = SyncReport { sync: sync.name.clone(), at, wanted, left_out, held };
        keep(&mut tx, sync, &report, todo, now).await?;
        tx.commit().await?;
        Ok(report)
    }
}
