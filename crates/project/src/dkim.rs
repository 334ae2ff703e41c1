//! Who signs a brand's mail: `dkim` of a brand, to a [`Signer`]. What a key must be is the matter of `message::dkim`.

use std::collections::BTreeMap;
use std::sync::Arc;

use message::dkim::{Signer, parse_domain, parse_selector};
use model::{BrandName, Secret};
use serde_json::{Value as Json, json};

use crate::read::{At, Cx, Read, record};
use crate::root::{RawBrand, Root};
use crate::schema::Schemas;
use crate::source::Span;
use crate::yaml::Node;

record! {
    /// Who signs the mail (DKIM).
    pub(crate) struct RawDkim ("a map with `domain`, `selector` and `key`") {
        /// Who answers for the mail: the domain of `from`, or one above it.
        "domain" domain: At<Domain>,
        /// Which of the domain's keys: the public one is published as TXT of SELECTOR._domainkey.DOMAIN.
        "selector" selector: Selector,
        /// The private key in PEM: RSA of 2048 bits or more, or Ed25519. Kept elsewhere: `{file: PATH}` and its kin.
        "key" key: PrivateKey,
    }
}

/// A domain that signs, as it travels.
#[derive(Debug, Clone)]
pub(crate) struct Domain(String);

impl Read for Domain {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a domain", |text| parse_domain(text).map(Self))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

/// A selector.
#[derive(Debug, Clone)]
pub(crate) struct Selector(String);

impl Read for Selector {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a selector", |text| parse_selector(text).map(Self))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": ["string", "number"], "pattern": "^[A-Za-z0-9.-]+$"}))
    }
}

/// A key, which is looked at when all is read.
#[derive(Debug, Clone)]
pub(crate) struct PrivateKey {
    pem: Secret,
    span: Span,
    /// Whether it stands in the file itself, whose lines a picture of a mistake shows.
    is_written: bool,
}

impl Read for PrivateKey {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "a private key")?;
        Some(Self { is_written: text.from.is_none(), span: text.span, pem: Secret::new(text.text) })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        crate::values::text_schema(schemas)
    }
}

/// Who signs, by brand.
pub(crate) fn signers(root: &Root, cx: &mut Cx<'_>) -> BTreeMap<BrandName, Arc<Signer>> {
    let brands = root.brands.iter().flat_map(|brands| &brands.0);
    let mut signers = BTreeMap::new();
    for (name, brand, dkim) in
        brands.filter_map(|thing| Some((&thing.name, &thing.value, thing.value.dkim.as_ref()?)))
    {
        check_aligned(brand, &dkim.domain, cx);
        match Signer::new(&dkim.domain.value.0, &dkim.selector.0, dkim.key.pem.reveal()) {
            Ok(signer) => {
                signers.insert(name.clone(), Arc::new(signer));
            }
            Err(why) => {
                let mistake = cx.mistake("E0105", dkim.key.span, "this is not a key that signs mail");
                mistake.label(why.0);
                if dkim.key.is_written {
                    mistake.cover();
                }
            }
        }
    }
    signers
}

/// A signature counts for DMARC if its domain and the sender's belong to one organisation (RFC 7489 3.1.1). Where an organisation
/// ends only a list of the public suffixes says: two labels in common pass here.
fn check_aligned(brand: &RawBrand, domain: &At<Domain>, cx: &mut Cx<'_>) {
    let ends = |domain: &str| domain.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    if ends(&brand.from.domain()) != ends(&domain.value.0) {
        cx.mistake(
            "E0503",
            domain.span,
            "the sender in `from` is of another domain: DMARC does not count this signature",
        )
        .warn()
        .hint("sign with the domain of `from`, or one above it");
    }
}
