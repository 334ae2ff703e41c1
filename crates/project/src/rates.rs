//! How fast destinations, sending domains and groups of recipients may be used: `throttle` and `recipients` as they are written.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::recipients::{KNOWN, OTHER, Recipients, known_domains};
use model::settings::Throttle;
use model::suggest::nearest;
use model::{BrandName, EmailAddress, RecipientsName};
use serde_json::{Value as Json, json};

use crate::read::{At, Cx, Read, record};
use crate::root::RawBrand;
use crate::schema::Schemas;
use crate::values::{Things, Whole};
use crate::yaml::Node;

record! {
    /// How fast something may be used.
    pub(crate) struct RawThrottle ("a map with `rate`") {
        /// So many in a second, minute or hour: `200/s`, `50/m`, `1000/h`.
        "rate" rate: Rate,
        /// And at once, after a pause; as many as `rate` says unless given.
        "burst" burst: Option<Whole<1, 1_000_000>>,
    }
}

record! {
    /// How fast a group of recipients may be written to: those whose mailboxes one provider has.
    pub(crate) struct RawRecipients ("a map with `rate`") {
        /// So many in a second, minute or hour: `20/s`, `50/m`, `1000/h`.
        "rate" rate: Rate,
        /// And at once, after a pause; as many as `rate` says unless given.
        "burst" burst: Option<Whole<1, 1_000_000>>,
        /// The domains of their addresses; besides those that are known, for a group that is known (google, microsoft, yahoo, apple).
        "domains" domains: Option<Vec<At<MailDomain>>>,
    }
}

/// So many in a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    count: u32,
    per: SignedDuration,
}

impl Read for Rate {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a rate", |text| {
            let expected = "a number and a unit, such as `200/s`, `50/m` or `1000/h`";
            let (count, unit) = text.split_once('/').ok_or(expected)?;
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                _ => return Err(expected),
            };
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count
                .parse()
                .ok()
                .filter(|count| digits && (1..=1_000_000).contains(count))
                .ok_or(expected)?;
            Ok(Self { count, per: SignedDuration::from_secs(seconds) })
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string", "pattern": "^[0-9]+/[smh]$"}))
    }
}

impl Rate {
    /// With what may go at once.
    fn throttle(self, burst: Option<Whole<1, 1_000_000>>) -> Throttle {
        let burst = burst.map_or(self.count, |burst| u32::try_from(burst.0).unwrap_or(u32::MAX));
        Throttle { count: self.count, per: self.per, burst }
    }
}

impl RawThrottle {
    pub(crate) fn throttle(&self) -> Throttle {
        self.rate.throttle(self.burst)
    }
}

/// The domain of an address, as addresses have it: in lower-case ASCII.
#[derive(Debug, Clone)]
pub(crate) struct MailDomain(String);

impl Read for MailDomain {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "the domain of an address", |text| {
            EmailAddress::parse(&format!("somebody@{text}")).map(|address| Self(address.domain().to_owned()))
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

/// Rates of groups of recipients, with the domains by which each is found.
pub(crate) fn recipients(
    things: &Things<RecipientsName, At<RawRecipients>>,
    cx: &mut Cx<'_>,
) -> Option<Recipients> {
    let (mut recipients, mut is_right) = (Recipients::default(), true);
    for thing in &things.0 {
        let (group, raw) = (&thing.name, &thing.value.value);
        recipients.rates.insert(group.clone(), raw.rate.throttle(raw.burst));
        let written = raw.domains.iter().flatten();
        if group.as_str() == OTHER {
            if let Some(first) = written.clone().next() {
                cx.mistake("E0108", first.span, "`other` is everybody who is in no other group")
                    .hint("a group for these domains takes any other name");
                is_right = false;
            }
            continue;
        }
        let known = known_domains(group.as_str());
        if known.is_none() && raw.domains.is_none() {
            let names = || KNOWN.iter().map(|(name, _)| *name).chain([OTHER]);
            let mistake =
                cx.mistake("E0103", thing.span, format!("the key `domains` of group `{group}` is missing"));
            match nearest(group.as_str(), names()) {
                Some(meant) => mistake.did_you_mean(Some(meant)),
                None => mistake.hint(format!(
                    "the domains of these groups are known: {}",
                    KNOWN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
                )),
            };
            is_right = false;
        }
        let all = known
            .into_iter()
            .flatten()
            .map(|domain| (thing.span, *domain))
            .chain(written.map(|domain| (domain.span, domain.value.0.as_str())));
        for (span, domain) in all {
            match recipients.domains.get(domain).filter(|other| *other != group) {
                Some(other) => {
                    let message = format!("`{domain}` is in group `{other}` and in group `{group}`");
                    cx.mistake("E0106", span, message);
                    is_right = false;
                }
                None => {
                    recipients.domains.insert(domain.to_owned(), group.clone());
                }
            }
        }
    }
    is_right.then_some(recipients)
}

/// How fast each sending domain may be used, as its brands say.
pub(crate) fn sending_domains(
    brands: Option<&Things<BrandName, RawBrand>>,
    cx: &mut Cx<'_>,
) -> BTreeMap<String, Throttle> {
    let mut domains: BTreeMap<String, (&BrandName, Throttle)> = BTreeMap::new();
    for thing in brands.into_iter().flat_map(|brands| &brands.0) {
        let Some(raw) = &thing.value.throttle else { continue };
        let (domain, throttle) = (thing.value.from.domain(), raw.value.throttle());
        match domains.get(&domain) {
            Some((other, said)) if *said != throttle => {
                let message = format!("brand `{other}` says otherwise how fast `{domain}` may be used");
                cx.mistake("E0108", raw.span, message)
                    .hint("brands of one sending domain share one rate: say it once, or the same");
            }
            _ => {
                domains.insert(domain, (&thing.name, throttle));
            }
        }
    }
    domains.into_iter().map(|(domain, (_, throttle))| (domain, throttle)).collect()
}
