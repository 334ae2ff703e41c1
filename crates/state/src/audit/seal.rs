//! Sealing: what is not in the tree yet goes in, and a checkpoint is signed. The writer is not held while
//! hashes are computed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::db::binds;
use crate::dialect::{SEAL_LOCK, Sql};
use crate::merkle::{Hash, Tree, leaf};
use crate::row;
use crate::{Keys, State, StateError, Tx};

/// Batches that are read, and written, at once.
const BATCHES_MAX: u32 = 64;

/// In Postgres a batch with a lower number may be committed after one with a higher, but not by more than
/// this.
const LATE_BATCHES_MAX: i64 = 10_000;

/// What a sealing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// How many entries it took into the tree.
    pub entries: u64,
}

/// The text of a C2SP checkpoint: origin, size, root.
pub(super) fn checkpoint_text(origin: &str, tree: &Tree) -> String {
    format!("{origin}\n{}\n{}\n", tree.size(), STANDARD.encode(tree.root()))
}

/// A batch with its place in the tree.
struct Placed {
    first: u64,
    batch: i64,
    leaves: Vec<Hash>,
    root: Hash,
}

/// Takes what is not sealed into the tree, in the order of the batches, and signs a checkpoint each few
/// batches and at the end.
///
/// # Errors
/// [`StateError::Corrupt`] if what is kept of the tree does not fit its last checkpoint: then nothing is sealed, and `verify` says more.
pub async fn seal(state: &State, keys: &Keys, project: &str) -> Result<Sealed, StateError> {
    let mut entries = 0;
    let origin = keys.log_key(project).origin;
    loop {
        let mut tx = state.read().await?;
        let mut tree = last_tree(&mut tx, &origin).await?;
        let batches = unsealed(&mut tx, state.is_postgres()).await?;
        tx.rollback().await?;
        if batches.is_empty() {
            return Ok(Sealed { entries });
        }
        let before = tree.size();
        let placed: Vec<Placed> =
            batches.iter().map(|(batch, payload)| place(&mut tree, *batch, payload)).collect();
        let text = checkpoint_text(&origin, &tree);
        let note = format!("{text}\n{}", keys.sign_note(project, &text));
        let mut tx = state.write().await?;
        if state.is_postgres() {
            tx.rows::<(i32,)>("wait for those who seal", &SEAL_LOCK, vec![]).await?;
        }
        if size(&mut tx).await? != before {
            // Another sealer was quicker.
            tx.rollback().await?;
            continue;
        }
        for placed in placed {
            keep(&mut tx, &placed).await?;
        }
        let sql = Sql::same("INSERT INTO audit_checkpoint (size, frontier, note) VALUES ($1, $2, $3)");
        tx.execute("keep a checkpoint", &sql, binds![integer(tree.size()), tree.frontier(), note]).await?;
        tx.commit().await?;
        entries += tree.size() - before;
    }
}

fn place(tree: &mut Tree, batch: i64, payload: &str) -> Placed {
    let first = tree.size();
    let leaves: Vec<Hash> = payload.split('\n').map(|line| leaf(line.as_bytes())).collect();
    for leaf in &leaves {
        tree.push(*leaf);
    }
    Placed { first, batch, leaves, root: tree.root() }
}

fn integer(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

async fn keep(tx: &mut Tx, placed: &Placed) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO audit_seal (first_index, batch, entries, leaves, root) VALUES ($1, $2, $3, $4, $5)",
    );
    let many = i64::try_from(placed.leaves.len()).unwrap_or(i64::MAX);
    let binds =
        binds![integer(placed.first), placed.batch, many, placed.leaves.concat(), placed.root.to_vec()];
    tx.execute("seal audit entries", &sql, binds).await?;
    Ok(())
}

async fn size(tx: &mut Tx) -> Result<u64, StateError> {
    let sql = Sql::same("SELECT MAX(size) FROM audit_checkpoint");
    let sizes: Vec<(Option<i64>,)> = tx.rows("read the log's size", &sql, vec![]).await?;
    Ok(sizes.first().and_then(|(size,)| *size).map_or(0, row::count))
}

/// The tree as of the last checkpoint, if what is kept of it fits that checkpoint.
async fn last_tree(tx: &mut Tx, origin: &str) -> Result<Tree, StateError> {
    let sql = Sql::same("SELECT size, frontier, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1");
    let last: Vec<(i64, Vec<u8>, String)> = tx.rows("read the last checkpoint", &sql, vec![]).await?;
    let Some((size, frontier, note)) = last.into_iter().next() else { return Ok(Tree::default()) };
    Tree::restore(row::count(size), &frontier)
        .filter(|tree| note.starts_with(&checkpoint_text(origin, tree)))
        .ok_or(StateError::Corrupt { what: "an audit log" })
}

/// The next batches that are not in the tree: number and payload.
pub(super) async fn unsealed(tx: &mut Tx, is_postgres: bool) -> Result<Vec<(i64, String)>, StateError> {
    let sql = Sql::same(
        "SELECT number, payload FROM audit_batch
        WHERE number > (SELECT COALESCE(MAX(batch), 0) FROM audit_seal) - $1
            AND NOT EXISTS (SELECT 1 FROM audit_seal WHERE audit_seal.batch = audit_batch.number)
        ORDER BY number LIMIT $2",
    );
    let late = if is_postgres { LATE_BATCHES_MAX } else { 0 };
    tx.rows("read unsealed audit entries", &sql, binds![late, BATCHES_MAX]).await
}
