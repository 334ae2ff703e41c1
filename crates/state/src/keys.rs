//! Keys: one root key, kept outside, seals a table of the real ones. Deliberately absent: rotation, and any
//! way to show a key.
//!
//! | key | for | rotated |
//! |---|---|---|
//! | address hash | HMAC-SHA256 of addresses (and of erased ids) | never: suppression would forget |
//! | tokens | signing what links carry | by number, the newest signs |
//! | log | Ed25519 signatures of the audit log's checkpoints | not yet |
//! | entry | AES-256-GCM of personal details | not yet |

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::EmailAddress;
use model::id::{AddressHash, IdentityHash, UnitHash, hex};
use sha2::{Digest as _, Sha256};

use crate::db::binds;
use crate::dialect::Sql;
use crate::row;
use crate::{StateError, Tx};

const KEY_BYTES: usize = 32;
/// C2SP signed-note: the type byte of an Ed25519 key.
const NOTE_ED25519: u8 = 1;

/// The one key that is kept outside the state.
#[derive(Clone)]
pub struct RootKey([u8; KEY_BYTES]);

impl RootKey {
    /// Reads 32 bytes in base64; white space around them is dropped.
    pub fn parse(text: &str) -> Result<Self, StateError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| StateError::RootKey)?;
        bytes.try_into().map(Self).map_err(|_| StateError::RootKey)
    }

    /// Makes a new one.
    pub fn generate() -> Result<Self, StateError> {
        random().map(Self)
    }

    /// As it is written to a file, in base64: for the one place that makes that file.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// The keys of a project, opened. A cheap handle.
#[derive(Clone)]
pub struct Keys {
    opened: Arc<Opened>,
}

struct Opened {
    hash: hmac::Key,
    tokens: Vec<(u8, [u8; KEY_BYTES])>,
    log: Ed25519KeyPair,
    entry: RandomizedNonceKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// The kinds of keys, and the words they are kept under.
const ADDRESS_HASH: &str = "address_hash";
const TOKEN: &str = "token";
const LOG: &str = "log";
const ENTRY: &str = "entry";

impl Keys {
    /// Opens the keys of the state, making them the first time.
    ///
    /// # Errors
    /// [`StateError::WrongRootKey`] if they were sealed with another root key.
    pub async fn load_or_create(tx: &mut Tx, root: &RootKey, now: Timestamp) -> Result<Self, StateError> {
        if let Some(keys) = Self::load(tx, root).await? {
            return Ok(keys);
        }
        // Should another process make them at this moment, then those are the keys.
        tx.execute(
            "lock the counters",
            &Sql::same("UPDATE counter SET value = value WHERE name = 'node'"),
            vec![],
        )
        .await?;
        if let Some(keys) = Self::load(tx, root).await? {
            return Ok(keys);
        }
        let sealing = aead_key(&root.0)?;
        for kind in [ADDRESS_HASH, TOKEN, LOG, ENTRY] {
            let sealed = row::base64(&seal(&sealing, &random()?, &about_key(kind, 1))?);
            let sql = Sql::same(
                "INSERT INTO sealed_key (kind, number, sealed, created_at_ms) VALUES ($1, 1, $2, $3)",
            );
            tx.execute("keep a key", &sql, binds![kind, sealed, row::ms(now)]).await?;
        }
        Self::load(tx, root).await?.ok_or(StateError::Corrupt { what: "keys" })
    }

    /// Opens the keys; `None` where none were ever made. Writes nothing.
    pub async fn load(tx: &mut Tx, root: &RootKey) -> Result<Option<Self>, StateError> {
        let sql = Sql::same("SELECT kind, number, sealed FROM sealed_key ORDER BY kind, number DESC");
        let rows: Vec<(String, i64, String)> = tx.rows("read the keys", &sql, vec![]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let sealing = aead_key(&root.0)?;
        let (mut hash, mut tokens, mut log, mut entry) = (None, Vec::new(), None, None);
        for (kind, number, sealed) in rows {
            let sealed = row::from_base64(&sealed, "a key")?;
            let plain = open(&sealing, &sealed, &about_key(&kind, number)).ok_or(StateError::WrongRootKey)?;
            let plain: [u8; KEY_BYTES] =
                plain.try_into().map_err(|_| StateError::Corrupt { what: "a key" })?;
            match kind.as_str() {
                ADDRESS_HASH => hash = Some(hmac::Key::new(hmac::HMAC_SHA256, &plain)),
                TOKEN => tokens
                    .push((u8::try_from(number).map_err(|_| StateError::Corrupt { what: "a key" })?, plain)),
                LOG => {
                    log = Some(
                        Ed25519KeyPair::from_seed_unchecked(&plain)
                            .map_err(|_| StateError::Corrupt { what: "a key" })?,
                    )
                }
                ENTRY => entry = Some(aead_key(&plain)?),
                _ => return Err(StateError::Corrupt { what: "a key" }),
            }
        }
        let missing = StateError::Corrupt { what: "keys" };
        let (Some(hash), Some(log), Some(entry), false) = (hash, log, entry, tokens.is_empty()) else {
            return Err(missing);
        };
        let keys = Self { opened: Arc::new(Opened { hash, tokens, log, entry }) };
        tx.introduce(&keys);
        Ok(Some(keys))
    }

    /// How suppression knows an address: HMAC-SHA256 of its normalised form, in hex.
    pub fn address_hash(&self, address: &EmailAddress) -> AddressHash {
        AddressHash::known(self.keyed_hash("address", &address.normalised()))
    }

    /// How caps know an account: HMAC-SHA256 of its id, in hex.
    pub fn account_hash(&self, id: &str) -> UnitHash {
        UnitHash::known(self.keyed_hash("account", id))
    }

    /// How what a person is known by at a destination is compared: HMAC-SHA256 of it, in hex.
    pub fn identity_hash(&self, member: &str) -> IdentityHash {
        IdentityHash::known(self.keyed_hash("member", member))
    }

    /// What shows that an address that mail came back to was ours: 40 bits of HMAC-SHA256 of its tag, in hex. It stands in the envelope of one message
    /// alone, and whoever guesses could not try often enough to matter.
    pub fn return_proof(&self, tag: &str) -> String {
        self.keyed_hash("return", tag)[..10].to_owned()
    }

    /// Whether an address that mail came back to shows that it was ours.
    pub fn is_return_proof(&self, tag: &str, proof: &str) -> bool {
        verify_slices_are_equal(self.return_proof(tag).as_bytes(), proof.as_bytes()).is_ok()
    }

    /// How a person's id is known to the journal, and once it is erased: HMAC-SHA256, in hex.
    pub fn id_hash(&self, id: &str) -> String {
        self.keyed_hash("profile", id)
    }

    fn keyed_hash(&self, kind: &str, text: &str) -> String {
        let mut context = hmac::Context::with_key(&self.opened.hash);
        for part in [kind.as_bytes(), &[0x1f], text.as_bytes()] {
            context.update(part);
        }
        hex(context.sign().as_ref())
    }

    /// The keys that sign tokens, newest first: number and key.
    pub fn tokens(&self) -> &[(u8, [u8; KEY_BYTES])] {
        &self.opened.tokens
    }

    /// What others check the audit log of a project with.
    pub fn log_key(&self, project: &str) -> LogKey {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.opened.log.public_key().as_ref());
        LogKey { origin: format!("drumbeat/{project}"), key }
    }

    /// Signs a note's text, as the line that C2SP signed-note puts below it.
    pub(crate) fn sign_note(&self, project: &str, text: &str) -> String {
        let key = self.log_key(project);
        let mut signature = key.hash().to_vec();
        signature.extend_from_slice(self.opened.log.sign(text.as_bytes()).as_ref());
        format!("— {} {}\n", key.origin, STANDARD.encode(signature))
    }

    /// Seals personal details; `about` names what they belong to, and must be the same when they are opened.
    pub fn seal(&self, plain: &[u8], about: &str) -> Result<Vec<u8>, StateError> {
        seal(&self.opened.entry, plain, about)
    }

    /// Opens what [`Keys::seal`] sealed.
    pub fn open(&self, sealed: &[u8], about: &str) -> Result<Vec<u8>, StateError> {
        open(&self.opened.entry, sealed, about).ok_or(StateError::Unseal { what: "a personal detail" })
    }
}

/// What checks the log's signatures: a C2SP verifier key, `NAME+HASH+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    /// Name of the log: `drumbeat/PROJECT`.
    pub origin: String,
    /// Ed25519 public key.
    pub key: [u8; KEY_BYTES],
}

impl LogKey {
    /// Reads `NAME+HASH+KEY`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, rest) = text.trim().split_once('+')?;
        let (hash, key) = rest.split_once('+')?;
        let key = STANDARD.decode(key).ok()?;
        let (NOTE_ED25519, key) = (*key.first()?, key.get(1..)?) else { return None };
        let parsed = Self { origin: origin.to_owned(), key: key.try_into().ok()? };
        (hex(&parsed.hash()) == hash).then_some(parsed)
    }

    /// First four bytes of SHA-256(name, newline, type, key).
    fn hash(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        for part in [self.origin.as_bytes(), b"\n", &[NOTE_ED25519], &self.key] {
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The text of a signed note, if this key signed it.
    pub fn open_note<'a>(&self, note: &'a str) -> Option<&'a str> {
        let (text, signatures) = note.rsplit_once("\n\n")?;
        let text = note.get(..text.len() + 1)?;
        let signature = signatures
            .lines()
            .find_map(|line| line.strip_prefix("— ")?.strip_prefix(&*self.origin)?.strip_prefix(' '))?;
        let signature = STANDARD.decode(signature).ok()?;
        let signature = signature.strip_prefix(&self.hash())?;
        UnparsedPublicKey::new(&ED25519, &self.key).verify(text.as_bytes(), signature).ok()?;
        Some(text)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[NOTE_ED25519], self.key.as_slice()].concat();
        write!(out, "{}+{}+{}", self.origin, hex(&self.hash()), STANDARD.encode(key))
    }
}

fn about_key(kind: &str, number: i64) -> String {
    format!("drumbeat.key\u{1f}{kind}\u{1f}{number}")
}

fn random() -> Result<[u8; KEY_BYTES], StateError> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| StateError::Random)?;
    Ok(bytes)
}

fn aead_key(bytes: &[u8; KEY_BYTES]) -> Result<RandomizedNonceKey, StateError> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| StateError::Corrupt { what: "a key" })
}

/// Nonce, then ciphertext and tag.
fn seal(key: &RandomizedNonceKey, plain: &[u8], about: &str) -> Result<Vec<u8>, StateError> {
    let mut sealed = plain.to_vec();
    let nonce = key
        .seal_in_place_append_tag(Aad::from(about.as_bytes()), &mut sealed)
        .map_err(|_| StateError::Random)?;
    Ok([nonce.as_ref().as_slice(), &sealed].concat())
}

fn open(key: &RandomizedNonceKey, sealed: &[u8], about: &str) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut opened = rest.to_vec();
    let length = key.open_in_place(nonce, Aad::from(about.as_bytes()), &mut opened).ok()?.len();
    opened.truncate(length);
    Some(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_is_read_back_and_never_shown() {
        let key = RootKey::generate().unwrap();
        assert_eq!(RootKey::parse(&format!(" {}\n", key.reveal())).unwrap().0, key.0);
        assert_eq!(format!("{key:?}"), "[secret]");
        for wrong in ["", "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="] {
            assert!(matches!(RootKey::parse(wrong), Err(StateError::RootKey)), "{wrong}");
        }
    }

    #[test]
    fn a_sealed_text_opens_only_unchanged_and_about_the_same() {
        let key = aead_key(&[7; 32]).unwrap();
        let sealed = seal(&key, b"plain", "about").unwrap();
        assert_eq!(open(&key, &sealed, "about").unwrap(), b"plain");
        assert!(open(&key, &sealed, "another").is_none());
        assert!(open(&aead_key(&[8; 32]).unwrap(), &sealed, "about").is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&key, &changed, "about").is_none());
        }
        assert!(open(&key, &sealed[..5], "about").is_none());
    }

    /// The example key of the specification's reference implementation.
    #[test]
    fn a_verifier_key_is_written_and_read_as_c2sp_says() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key = LogKey::parse(text).unwrap();
        assert_eq!(key.to_string(), text);
        assert!(LogKey::parse(&text.replace("c74f", "c74e")).is_none());
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(key.open_note(note).unwrap().lines().count(), 2);
        assert!(key.open_note(&note.replace("think", "thing")).is_none());
    }
}
