//! From policy.yml as written to [`Policy`].

use model::duration::Share;
use model::name::{BrandName, CapName, PurposeName, QuietHoursName};
use model::policy::{
    Canary, Cap, CapUnit, Channel, GlobalHoldout, Guards, MessageClass, OnHit, OwnGuards, Policy, Purpose,
    QuietHours, RuleZone, Scope,
};

use crate::doubt::in_doubt;
use crate::playbook::hours;
use crate::query::query;
use crate::read::{At, Cx, Named};
use crate::root::{HoldoutMap, RawCap, RawGuards, RawPurpose, RawQuiet, RawRates, Root};
use crate::values::{Some1, Thing};

/// The policy, of the keys that concern it.
pub(crate) fn policy(root: &mut Root, cx: &mut Cx<'_>) -> Policy {
    // By name, since a brand may be wrong in itself.
    let brands: Vec<BrandName> =
        cx.names(Named::Brand).filter_map(|name| BrandName::parse(name).ok()).collect();
    let purposes = root.purposes.take().unwrap_or_default().0;
    let purposes: Vec<Purpose> =
        purposes.into_iter().filter_map(|thing| purpose(thing, &brands, root, cx)).collect();
    let consent = match root.consent.take() {
        Some(raw) => query(raw.value.sql, raw.value.sql_file, raw.value.columns, raw.span, cx),
        None => None,
    };
    let caps = root.caps.take().unwrap_or_default().0;
    let mut caps: Vec<Cap> = caps.into_iter().map(cap).collect();
    caps.sort_by(|left, right| left.name.cmp(&right.name));
    let quiet = root.quiet_hours.take().unwrap_or_default().0;
    let mut quiet: Vec<QuietHours> = quiet.into_iter().filter_map(|thing| quiet_hours(thing, cx)).collect();
    quiet.sort_by(|left, right| left.name.cmp(&right.name));
    let region = root.regions.as_ref().and_then(|regions| regions.other.clone());
    let permission = region.map_or_else(Vec::new, |region| {
        [
            (Channel::Email, region.email),
            (Channel::Sms, region.sms),
            (Channel::Push, region.push),
            (Channel::Ads, region.ads),
        ]
        .into_iter()
        .filter_map(|(channel, permission)| Some((channel, permission?)))
        .collect()
    });
    Policy {
        purposes: purposes.into_iter().map(|purpose| (purpose.name.clone(), purpose)).collect(),
        consent,
        permission: permission.into_iter().collect(),
        caps,
        quiet_hours: quiet,
        holdout: root
            .holdout
            .take()
            .map(|raw| holdout(raw.0, root.project.0.as_ref().map_or("", |project| &project.0)))
            .filter(|holdout| holdout.share != Share::NONE),
        guards: root.guards.take().map(guards).unwrap_or_default(),
        in_doubt: root.in_doubt.take().map(|raw| in_doubt(raw, cx)).unwrap_or_default(),
    }
}

fn guards(raw: RawGuards) -> Guards {
    let default = Guards::default();
    let (times, above) = raw.growth.map_or((None, None), |growth| (growth.times, growth.above));
    let own = own_guards(raw.in_doubt, raw.rates);
    let guards = Guards {
        growth_times: times.map_or(default.growth_times, |times| times.0),
        growth_above: above.map_or(default.growth_above, |above| above.0),
        first_run: raw.first_run.map_or(default.first_run, |first_run| first_run.0),
        canary: raw.canary.map_or(default.canary.clone(), |canary| Canary {
            share: canary.share.unwrap_or(default.canary.share),
            min: canary.min.map_or(default.canary.min, |min| min.0),
            soak: canary.soak.map_or(default.canary.soak, |soak| soak.0),
        }),
        per_hour: raw.per_hour.map_or(default.per_hour, |per_hour| per_hour.0),
        removal: raw.removal.unwrap_or(default.removal),
        ..default
    };
    own.over(&guards)
}

/// Those that a playbook may have of its own.
pub(crate) fn own_guards(in_doubt: Option<Share>, rates: Option<RawRates>) -> OwnGuards {
    rates.map_or_else(
        || OwnGuards { in_doubt, ..OwnGuards::default() },
        |rates| OwnGuards {
            bounced: rates.bounced,
            complained: rates.complained,
            unsubscribed: rates.unsubscribed,
            failed: rates.failed,
            fallback: rates.fallback,
            in_doubt,
        },
    )
}

/// A purpose speaks for a brand, and a brand that advertises says who it is and how to be rid of it.
fn purpose(
    thing: Thing<PurposeName, RawPurpose>,
    brands: &[BrandName],
    root: &Root,
    cx: &mut Cx<'_>,
) -> Option<Purpose> {
    let raw = thing.value;
    let brand = match (raw.brand, brands) {
        (Some(named), _) => named.value,
        (None, [only]) => only.clone(),
        // They may stand in a file that could not be read.
        (None, []) if cx.root.is_some_and(|root| !root.whole) => return None,
        (None, []) => {
            cx.mistake(
                "E0204",
                thing.span,
                format!("the purpose `{}` has no brand to speak for it", thing.name),
            )
            .hint("name one in drumbeat.yml under `brands`");
            return None;
        }
        (None, several) => {
            let names = several.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            cx.mistake(
                "E0204",
                thing.span,
                format!("the purpose `{}` could speak for several brands: {names}", thing.name),
            )
            .hint("say which: `brand: ...`");
            return None;
        }
    };
    let class = raw.class.value;
    let found = root.brands.iter().flat_map(|brands| &brands.0).find(|known| known.name == brand);
    if let (Some(found), true) = (found, class != MessageClass::Transactional) {
        let has = [
            ("public_url", found.value.public_url.is_there()),
            ("postal_address", found.value.postal_address.is_there()),
        ];
        for (key, _) in has.into_iter().filter(|(_, there)| !there) {
            let message =
                format!("a purpose of class {} needs `{key}` of the brand `{brand}`", class.as_str());
            cx.mistake("E0501", raw.class.span, message)
                .hint(format!("add `{key}` in drumbeat.yml under `brands`, `{brand}`"));
        }
    }
    Some(Purpose { name: thing.name, title: raw.title, class, brand })
}

fn cap(thing: Thing<CapName, At<RawCap>>) -> Cap {
    let raw = thing.value.value;
    Cap {
        name: thing.name,
        scope: Scope {
            channel: all(raw.channel),
            class: all(raw.class),
            purpose: all(raw.purpose),
            brand: all(raw.brand),
            playbook: all(raw.playbook),
        },
        unit: raw.unit.unwrap_or(CapUnit::Profile),
        max: u32::try_from(raw.max.0).unwrap_or(u32::MAX),
        per: raw.per,
        zone: raw.zone.unwrap_or(RuleZone::Profile),
        on_hit: raw.on_hit.unwrap_or(OnHit::Defer),
    }
}

fn quiet_hours(thing: Thing<QuietHoursName, At<RawQuiet>>, cx: &mut Cx<'_>) -> Option<QuietHours> {
    let raw = thing.value.value;
    let hours = hours(raw.from, raw.to, thing.span, cx)?;
    let (days, dates) = (all(raw.days), all(raw.dates));
    if hours.is_none() && days.is_empty() && dates.is_empty() {
        cx.mistake("E0105", thing.span, "this would always be quiet")
            .hint("give `from` and `to`, `days` or `dates`");
        return None;
    }
    Some(QuietHours {
        name: thing.name,
        scope: Scope {
            channel: all(raw.channel),
            class: all(raw.class),
            purpose: all(raw.purpose),
            brand: all(raw.brand),
            playbook: all(raw.playbook),
        },
        hours,
        days,
        dates,
        zone: raw.zone.unwrap_or(RuleZone::Profile),
        filter: raw.filter,
    })
}

fn all<T>(some: Option<Some1<T>>) -> Vec<T> {
    some.map(|some| some.0).unwrap_or_default()
}

fn holdout(raw: HoldoutMap, project: &str) -> GlobalHoldout {
    GlobalHoldout {
        share: raw.share,
        salt: raw.salt.unwrap_or_else(|| project.to_owned()),
        rotate: raw.rotate.map(|rotate| rotate.0),
    }
}
