use crate::helper::*;
#[test]
fn saas() {
    let dir = std::path::Path::new("/work/main/playbooks/saas/templates");
    let mut files = vec![];
    for e in std::fs::read_dir(dir).unwrap().flatten() { files.push((e.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(e.path()).unwrap())); }
    let s = message::Sources(files.into_iter().collect());
    for t in s.templates() {
        match message::compile(&s, &t, &locales()) {
            Err(m) => println!("{t}: {m:#?}"),
            Ok(c) => {
                println!("=== {t} {:?} {:?} unsub {} postal {} missing {:?}", c.used().iter().map(|u| format!("{}.{:?}{}", u.root, u.name, if u.guarded {"?"} else {""})).collect::<Vec<_>>(), c.warnings(), c.uses_unsubscribe(), c.uses_postal_address(), c.missing_locales(&locales()));
                let mut r = Reader::new(&[("first_name", text("Ana <b>"))]).german();
                r.entry = values(&[("last_seen", text("2026-01-05"))]);
                r.with = values(&[("headline", text("Three {{ 7*7 }} shortcuts"))]);
                match r.render(&c) { Ok(m) => { println!("{}\n{:?}\n{}", m.subject, m.preheader, m.text); if t.as_str() == "win_back_nudge" { println!("{}", m.html.unwrap()); } }, Err(e) => println!("{e:?}") }
            }
        }
    }
}
