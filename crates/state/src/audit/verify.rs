//! Verification: everything again from the entries, and the first place that is wrong by name.

use std::collections::VecDeque;

use crate::db::binds;
use crate::dialect::Sql;
use crate::keys::LogKey;
use crate::merkle::{Tree, leaf};
use crate::row;
use crate::{State, StateError, Tx};

use super::seal::checkpoint_text;

const SEALS_AT_ONCE: u32 = 64;
const CHECKPOINTS_AT_ONCE: u32 = 256;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Sealed entries, as far as the log is whole.
    pub entries: u64,
    /// Signed checkpoints that hold.
    pub checkpoints: u64,
    /// Entries that are not sealed yet, and so not proved.
    pub unsealed: u64,
    /// The first wrong place.
    pub first_fault: Option<Fault>,
}

/// A wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Index of the entry, from 0: the first that can be wrong.
    pub entry: u64,
    /// Its batch, as far as it is known; 0 if it is not.
    pub batch: i64,
    /// What is wrong with it.
    pub what: String,
}

/// Checks everything, in one snapshot, and names the first wrong place.
pub async fn verify(state: &State, key: &LogKey) -> Result<Verified, StateError> {
    let mut tx = state.read().await?;
    let mut walk = Walk::start(key);
    let mut fault = walk.through(&mut tx).await?;
    // SQLite has one writer: numbers follow the order of commits there, and a batch between sealed ones was
    // put there later.
    if !state.is_postgres() {
        let inserted = inserted(&mut tx).await?;
        fault = match (fault, inserted) {
            (Some(fault), Some(inserted)) if inserted.entry >= fault.entry => Some(fault),
            (fault, inserted) => inserted.or(fault),
        };
    }
    let unsealed = count_unsealed(&mut tx).await?;
    tx.rollback().await?;
    Ok(Verified { entries: walk.tree.size(), checkpoints: walk.checkpoints, unsealed, first_fault: fault })
}

/// A sealed batch, as it is read. What was changed need not be text any more: bytes are compared.
type SealRow = (i64, i64, i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

macro_rules! seals {
    ($payload:expr) => {
        concat!(
            "SELECT audit_seal.first_index, audit_seal.batch, audit_seal.entries, audit_seal.leaves, audit_seal.root, ",
            $payload,
            " FROM audit_seal LEFT JOIN audit_batch ON audit_batch.number = audit_seal.batch
            WHERE audit_seal.first_index > $1 ORDER BY audit_seal.first_index LIMIT $2"
        )
    };
}
const SEALS: Sql = Sql {
    sqlite: seals!("CAST(audit_batch.payload AS BLOB)"),
    postgres: seals!("convert_to(audit_batch.payload, 'UTF8')"),
};
const CHECKPOINTS: Sql = Sql {
    sqlite: "SELECT size, frontier, CAST(note AS BLOB) FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT $2",
    postgres: "SELECT size, frontier, convert_to(note, 'UTF8') FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT $2",
};

/// A checkpoint: size, frontier and note.
type Checkpoint = (u64, Vec<u8>, Vec<u8>);

struct Walk<'a> {
    key: &'a LogKey,
    tree: Tree,
    checkpoints: u64,
    /// The size of the last checkpoint that holds: nothing before it can be wrong.
    proved: u64,
    proved_batch: i64,
    ahead: VecDeque<Checkpoint>,
    read_to: i64,
}

impl<'a> Walk<'a> {
    fn start(key: &'a LogKey) -> Self {
        Self {
            key,
            tree: Tree::default(),
            checkpoints: 0,
            proved: 0,
            proved_batch: 0,
            ahead: VecDeque::new(),
            read_to: -1,
        }
    }

    async fn through(&mut self, tx: &mut Tx) -> Result<Option<Fault>, StateError> {
        let mut after = -1_i64;
        loop {
            let seals: Vec<SealRow> = tx.rows("read the log", &SEALS, binds![after, SEALS_AT_ONCE]).await?;
            let Some(last) = seals.last() else { break };
            after = last.0;
            for seal in seals {
                if let Some(fault) = self.batch(&seal) {
                    return Ok(Some(fault));
                }
                if let Some(fault) = self.checkpoints_here(tx, seal.1).await? {
                    return Ok(Some(fault));
                }
            }
        }
        self.end(tx).await
    }

    /// One sealed batch against its entries.
    fn batch(&mut self, seal: &SealRow) -> Option<Fault> {
        let (first, batch, many, leaves, root, payload) = seal;
        let fault = |entry: u64, what: &str| Some(Fault { entry, batch: *batch, what: what.to_owned() });
        let here = self.tree.size();
        if row::count(*first) != here {
            return fault(here, "the entries that stood here are missing from the tree");
        }
        let Some(payload) = payload else { return fault(here, "the batch is gone") };
        let (leaves, rest) = leaves.as_chunks::<32>();
        let mut lines = payload.split(|byte| *byte == b'\n');
        for (place, kept) in (0_u64..).zip(leaves) {
            match lines.next() {
                None => return fault(here + place, "the entry is gone from its batch"),
                Some(line) if leaf(line) != *kept => {
                    return fault(here + place, "the entry or its leaf was changed");
                }
                Some(_) => self.tree.push(*kept),
            }
        }
        let sealed = self.tree.size();
        if lines.next().is_some() {
            return fault(sealed, "an entry was added to its batch");
        }
        if !rest.is_empty() || row::count(*many) != sealed - here {
            return fault(here, "the number of entries was changed");
        }
        if *root != self.tree.root() {
            return fault(here, "the batch is not the one that was sealed here, or its root was changed");
        }
        None
    }

    /// The checkpoints up to the present size.
    async fn checkpoints_here(&mut self, tx: &mut Tx, batch: i64) -> Result<Option<Fault>, StateError> {
        while let Some((size, frontier, note)) = self.next_checkpoint(tx).await? {
            if size > self.tree.size() {
                self.ahead.push_front((size, frontier, note));
                break;
            }
            let fault = |what: &str| {
                Some(Fault { entry: self.proved, batch: self.proved_batch + 1, what: what.to_owned() })
            };
            if size < self.tree.size() {
                return Ok(fault(
                    "a checkpoint stands where none was signed, or a batch after it was lengthened",
                ));
            }
            let Some(text) = str::from_utf8(&note).ok().and_then(|note| self.key.open_note(note)) else {
                return Ok(fault(
                    "the checkpoint after this entry is not signed with this key, or was changed",
                ));
            };
            if text != checkpoint_text(&self.key.origin, &self.tree) {
                return Ok(fault("from this entry on the log is not what the checkpoint signed"));
            }
            if frontier != self.tree.frontier() {
                return Ok(fault("what is kept of the tree beside the checkpoint was changed"));
            }
            self.checkpoints += 1;
            self.proved = size;
            self.proved_batch = batch;
        }
        Ok(None)
    }

    async fn next_checkpoint(&mut self, tx: &mut Tx) -> Result<Option<Checkpoint>, StateError> {
        if self.ahead.is_empty() {
            let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
                tx.rows("read checkpoints", &CHECKPOINTS, binds![self.read_to, CHECKPOINTS_AT_ONCE]).await?;
            self.read_to = rows.last().map_or(self.read_to, |row| row.0);
            self.ahead
                .extend(rows.into_iter().map(|(size, frontier, note)| (row::count(size), frontier, note)));
        }
        Ok(self.ahead.pop_front())
    }

    /// What must hold when all seals are read: the last checkpoint covers exactly them.
    async fn end(&mut self, tx: &mut Tx) -> Result<Option<Fault>, StateError> {
        let (entry, what) = if self.next_checkpoint(tx).await?.is_some() {
            (self.tree.size(), "entries that a checkpoint covers are missing from here on")
        } else if self.proved < self.tree.size() {
            (self.proved, "the checkpoint that covered the entries from here on is missing")
        } else {
            return Ok(None);
        };
        Ok(Some(Fault { entry, batch: self.proved_batch + 1, what: what.to_owned() }))
    }
}

/// A batch that is not sealed, though a later one is.
async fn inserted(tx: &mut Tx) -> Result<Option<Fault>, StateError> {
    let sql = Sql::same(
        "SELECT number, (SELECT MIN(first_index) FROM audit_seal WHERE audit_seal.batch > number) FROM audit_batch
        WHERE number < (SELECT MAX(batch) FROM audit_seal)
            AND NOT EXISTS (SELECT 1 FROM audit_seal WHERE audit_seal.batch = audit_batch.number)
        ORDER BY number LIMIT 1",
    );
    let rows: Vec<(i64, i64)> = tx.rows("look for inserted batches", &sql, vec![]).await?;
    Ok(rows.first().map(|(batch, entry)| Fault {
        entry: row::count(*entry),
        batch: *batch,
        what: "a batch was inserted before this entry".to_owned(),
    }))
}

async fn count_unsealed(tx: &mut Tx) -> Result<u64, StateError> {
    let sql = Sql::same(
        "SELECT number, payload FROM audit_batch
        WHERE number > $1 AND NOT EXISTS (SELECT 1 FROM audit_seal WHERE audit_seal.batch = audit_batch.number)
        ORDER BY number LIMIT $2",
    );
    let (mut unsealed, mut after) = (0, i64::MIN);
    loop {
        let batches: Vec<(i64, String)> =
            tx.rows("count unsealed entries", &sql, binds![after, SEALS_AT_ONCE]).await?;
        let Some((last, _)) = batches.last() else { return Ok(unsealed) };
        after = *last;
        unsealed += batches.iter().map(|(_, payload)| payload.split('\n').count() as u64).sum::<u64>();
    }
}
