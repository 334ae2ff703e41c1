//! Temporary: measures.
use std::collections::BTreeMap;
use jiff::Timestamp;
use model::delivery::*; use model::enrollment::*; use model::policy::*; use model::reason::Gate; use model::{PlaybookName,StepId,ProfileNumber,EnrollmentId,DeliveryId,PurposeName,BrandName,DestinationName,TemplateName,DeliveryState,Reason,Secret};
use state::audit::Entry;
use state::*;
fn at(s: i64) -> Timestamp { Timestamp::from_second(s).unwrap() }
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())/100.0 }
fn threads() -> f64 { let mut t = 0.0; for d in std::fs::read_dir("/proc/self/task").unwrap().flatten() { let s = std::fs::read_to_string(d.path().join("stat")).unwrap(); if s.contains("sqlx-sqlite") { let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); t += (f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())/100.0 } } t }
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let many: u32 = args[1].parse().unwrap();
    let url = Secret::new(args.get(2).cloned().unwrap_or("sqlite://bench/state.db".into()));
    let dir = std::path::PathBuf::from("/tmp/state-bench"); std::fs::remove_dir_all(&dir).ok(); std::fs::create_dir_all(&dir).unwrap();
    if !url.reveal().starts_with("sqlite") { State::migrate(&url, &dir).await.unwrap(); }
    let state = State::open(&url, &dir, Access::Create).await.unwrap();
    let root = RootKey::generate().unwrap();
    let mut tx = state.write().await.unwrap(); let keys = Keys::load_or_create(&mut tx, &root, at(0)).await.unwrap(); tx.commit().await.unwrap();
    let report = |name: &str, c: f64, t: std::time::Instant, n: u32| println!("{name}: {:.2} us CPU, {:.2} us wall each", (cpu()-c)*1e6/f64::from(n), t.elapsed().as_secs_f64()*1e6/f64::from(n));
    let (c,t) = (cpu(), std::time::Instant::now());
    for page in 0..many/1000 {
        let ids: Vec<String> = (page*1000..page*1000+1000).map(|n| format!("{:08}", n)).collect();
        let mut tx = state.write().await.unwrap(); profile::intern(&mut tx, &keys, &ids).await.unwrap(); tx.commit().await.unwrap();
    }
    report("intern", c, t, many);
    let (c,t) = (cpu(), std::time::Instant::now());
    let mut tx = state.read().await.unwrap();
    for page in 0..many/1000 {
        let ids: Vec<String> = (page*1000..page*1000+1000).map(|n| format!("{:08}", n)).collect();
        profile::numbers_of(&mut tx, &ids).await.unwrap();
    }
    drop(tx);
    report("numbers_of", c, t, many);
    let name = PlaybookName::known("win_back");
    let (c,t) = (cpu(), std::time::Instant::now());
    let mut build = 0.0; let th = threads(); let mut parts = [0.0f64; 4];
    for page in 0..many/1000 {
        let b = cpu();
        let (mut es, mut ds, mut aus) = (vec![], vec![], vec![]);
        for n in page*1000+1..=page*1000+1000 {
            let n = ProfileNumber(n);
            let id = EnrollmentId::derive("acme", &name, n, "run");
            let step = StepId::known("hello");
            es.push((Enrollment { id: id.clone(), playbook: name.clone(), version: "0123456789abcdef0123456789abcdef".into(), profile: n, trigger: "abcdefghijklmnopqrstuvwxyz234567".into(), entered_at: at(1_700_000_000), holdout: None,
                progress: Progress::Sending { step: step.clone(), since: at(1_700_000_000) }, goal_reached_at: None, outcomes: BTreeMap::new(), entry: BTreeMap::new() }, Some(vec![7u8; 60])));
            let g = |gate, saw: &str| GateRecord { gate, reason: None, saw: saw.into() };
            let did = DeliveryId::derive("acme", &id, &step, 0);
            ds.push(Delivery { id: did.clone(), enrollment: id, version: "0123456789abcdef0123456789abcdef".into(), step, profile: n,
                traits: Traits { channel: Channel::Email, class: MessageClass::Marketing, purpose: PurposeName::known("offers"), brand: BrandName::known("acme"), playbook: name.clone() },
                destination: DestinationName::known("newsletter"), template: TemplateName::known("hello"), priority: 50, state: DeliveryState::Pending, reason: Reason::OkAccepted,
                gates: vec![g(Gate::System, ""), g(Gate::Identity, ""), g(Gate::Suppression, ""), g(Gate::Consent, "granted 2024-01-01"), g(Gate::Currency, ""), g(Gate::Cap, "email_day 0 of 1 since 00:00 Europe/Berlin"), g(Gate::Time, "14:00 Europe/Berlin"), g(Gate::Holdout, "")],
                created_at: at(1_700_000_000), decided_at: at(1_700_000_000), due_at: at(1_700_000_000), expires_at: at(1_700_100_000) });
            aus.push(Entry { kind: "decision", at: at(1_700_000_000), body: serde_json::json!({"delivery": did.as_str(), "profile": n.0, "playbook": "win_back", "step": "hello", "state": "pending", "reason": "ok.accepted"}) });
        }
        build += cpu() - b;
        let mut tx = state.write().await.unwrap();
        let q = std::time::Instant::now(); enrollment::put(&mut tx, &es).await.unwrap(); parts[0] += q.elapsed().as_secs_f64();
        let q = std::time::Instant::now(); delivery::decide(&mut tx, &ds, at(1_700_000_000)).await.unwrap();parts[1] += q.elapsed().as_secs_f64();
        let q = std::time::Instant::now(); audit::append(&mut tx, &aus).await.unwrap();parts[2] += q.elapsed().as_secs_f64();
        let q = std::time::Instant::now(); tx.commit().await.unwrap();parts[3] += q.elapsed().as_secs_f64();
    }
    report("commit", c, t, many); println!("  sqlite threads {:.2}", (threads()-th)*1e6/f64::from(many)); println!("  put decide append commit (wall us): {:?}", parts.map(|p| p*1e6/f64::from(many))); println!("  of which building {:.2}", build*1e6/f64::from(many));
    let (c,t) = (cpu(), std::time::Instant::now());
    audit::seal(&state, &keys, "acme").await.unwrap();
    report("seal", c, t, many);
    let (c,t) = (cpu(), std::time::Instant::now());
    audit::verify(&state, &keys.log_key("acme")).await.unwrap();
    report("verify", c, t, many);
    let (c,t) = (cpu(), std::time::Instant::now());
    let mut tx = state.read().await.unwrap();
    for page in 0..many/1000 {
        let ns: Vec<ProfileNumber> = (page*1000+1..=page*1000+1000).map(ProfileNumber).collect();
        assert_eq!(delivery::touches(&mut tx, &ns, at(0)).await.unwrap().len(), 1000);
    }
    drop(tx);
    report("touches", c, t, many);
    let k = many.min(64*300);
    let (c,t) = (cpu(), std::time::Instant::now());
    let dest = DestinationName::known("newsletter"); let mut claimed = vec![];
    while claimed.len() < k as usize { let mut tx = state.write().await.unwrap(); let l = state.lease_now(&mut tx).await.unwrap(); let got = outbox::claim(&mut tx, &dest, at(1_800_000_000), l, 600_000, 256, "n").await.unwrap(); tx.commit().await.unwrap(); claimed.extend(got); }
    report("claim", c, t, k);
    let (c,t) = (cpu(), std::time::Instant::now());
    for batch in claimed.chunks(64) {
        let mut tx = state.write().await.unwrap(); let l = state.lease_now(&mut tx).await.unwrap();
        let rows: Vec<_> = batch.iter().map(|c| (delivery::DeliveryKey::of(&c.delivery), c.fence, model::id::AddressHash::known("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))).collect();
        let ps: Vec<_> = batch.iter().map(|c| c.delivery.profile).collect();
        outbox::lock_profiles(&mut tx, &ps).await.unwrap();
        assert_eq!(outbox::arm(&mut tx, &rows, at(1_800_000_000), l).await.unwrap().len(), batch.len());
        tx.commit().await.unwrap();
    }
    report("arm/64", c, t, k);
    let (c,t) = (cpu(), std::time::Instant::now());
    for batch in claimed.chunks(64) {
        let rows: Vec<_> = batch.iter().map(|c| outbox::Settlement { delivery: delivery::DeliveryKey::of(&c.delivery), attempt: 1, result: outbox::Answer::Accepted { receipt: "250 queued".into() }, detail: "250".into() }).collect();
        let mut tx = state.write().await.unwrap();
        outbox::settle(&mut tx, &rows, at(1_800_000_001)).await.unwrap();
        tx.commit().await.unwrap();
    }
    report("settle/64", c, t, k);
    let (c,t) = (cpu(), std::time::Instant::now());
    let mut tx = state.read().await.unwrap(); let d = enrollment::due(&mut tx, &name, at(1_800_000_002), 1000, None).await.unwrap(); println!("due {}", d.len()); report("due", c, t, 1000);
    let (c,t) = (cpu(), std::time::Instant::now());
    println!("{:?}", delivery::counts(&mut tx, &Default::default()).await.unwrap()); report("counts", c, t, many);
    println!("{:?}", delivery::next_due(&mut tx, at(1)).await.unwrap());
    println!("find {}", delivery::find(&mut tx, &Default::default(), None, 100).await.unwrap().len());
    for f in std::fs::read_dir(dir.join("bench")).into_iter().flatten().flatten() { println!("{:?} {}", f.file_name(), f.metadata().unwrap().len()); }
}
