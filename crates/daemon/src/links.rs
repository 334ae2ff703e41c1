//! The links a message carries, what lists and counts it, and the message as a connector gets it.

use connector::Item;
use connector::feedback::{Told, ToldKind, echo};
use jiff::Timestamp;
use message::Mail;
use message::token::{self, Claim};
use model::delivery::Delivery;
use model::policy::Purpose;
use model::settings::Brand;
use model::{DestinationName, EmailAddress, MessageClass, Reason, Refusal};

use crate::daemon::Daemon;

/// The links of one message, and what its receivers list and count it by; none where the brand has no public address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// One click: withdraws all but transactional purposes of the channel.
    pub unsubscribe: Option<String>,
    /// The page that shows what the person gets.
    pub preferences: Option<String>,
    /// RFC 2919.
    pub list_id: Option<String>,
    /// By what Gmail counts complaints.
    pub feedback_id: Option<String>,
    /// The same as one click, by mail (RFC 2369), where the destination reads mail.
    pub unsubscribe_mailto: Option<String>,
    /// Where its bounces come back to, if not to the sender.
    pub return_path: Option<EmailAddress>,
}

impl Links {
    /// The links of a delivery. Transactional messages carry none, and come back all the same.
    pub fn of(daemon: &Daemon, delivery: &Delivery, purpose: &Purpose, brand: &Brand) -> Self {
        let echo = echo(delivery.profile, &delivery.id);
        let return_path = return_address(daemon, &delivery.destination, &echo);
        let Some(base) = brand.public_url.as_deref().filter(|_| purpose.class != MessageClass::Transactional)
        else {
            return Self { return_path, ..Self::default() };
        };
        let base = base.trim_end_matches('/');
        let link = |path: &str, kind: token::Purpose| {
            let claim = Claim {
                purpose: kind,
                profile: delivery.profile,
                delivery: delivery.id.clone(),
                channel: delivery.traits.channel,
            };
            format!("{base}/{path}/{}", token::issue(&token_keys(&daemon.keys), &claim))
        };
        let host =
            base.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
        Self {
            unsubscribe: Some(link("u", token::Purpose::Unsubscribe)),
            preferences: Some(link("p", token::Purpose::Preferences)),
            list_id: (!host.is_empty())
                .then(|| format!("{}.{host}", purpose.name.as_str().replace('_', "-"))),
            feedback_id: Some(message::feedback_id(
                &daemon.project.settings.project,
                delivery.traits.playbook.as_str(),
                delivery.step.as_str(),
                purpose.class.as_str(),
            )),
            unsubscribe_mailto: return_address(daemon, &delivery.destination, &format!("u-{echo}"))
                .map(|address| address.as_string()),
            return_path,
        }
    }
}

/// Where mail about a message comes back to, with what shows that the address was ours.
fn return_address(daemon: &Daemon, destination: &DestinationName, about: &str) -> Option<EmailAddress> {
    let tag = format!("{about}-{}", daemon.keys.return_proof(about));
    daemon.carriers.get(destination)?.names()?.return_address(&tag)
}

/// Whether an address that mail came back to was ours.
pub(crate) fn is_proven(daemon: &Daemon, told: &Told) -> bool {
    let Some(proof) = &told.proof else { return true };
    let echo = echo(told.about.0, &told.about.1);
    // An opt-out by mail has an address of its own: whoever sees a bounce is not to be able to opt anybody out.
    let about = if told.kind == ToldKind::Unsubscribed { format!("u-{echo}") } else { echo };
    daemon.keys.is_return_proof(&about, proof) || model::fault::mutant("proof_unasked")
}

/// The keys that sign tokens, as the message room wants them.
pub fn token_keys(keys: &state::Keys) -> Vec<token::Key> {
    keys.tokens().iter().map(|(id, bytes)| token::Key { id: *id, bytes: *bytes }).collect()
}

fn parse(address: &str) -> Result<EmailAddress, Refusal> {
    EmailAddress::parse(address)
        .map_err(|error| Refusal { reason: Reason::SenderInvalid, saw: error.0.to_owned() })
}

/// A composed message as a connector gets it.
pub fn item(
    delivery: &Delivery,
    attempt: u32,
    mail: Mail,
    links: &Links,
    at: Timestamp,
) -> Result<Item, Refusal> {
    Ok(Item {
        delivery: delivery.id.clone(),
        attempt,
        profile: delivery.profile,
        playbook: delivery.traits.playbook.clone(),
        step: delivery.step.clone(),
        template: delivery.template.clone(),
        at,
        content: mail.content,
        mail_from: links.return_path.clone().map_or_else(|| parse(&mail.mail_from), Ok)?,
        rcpt_to: parse(&mail.rcpt_to)?,
        bytes: mail.bytes.into(),
    })
}
