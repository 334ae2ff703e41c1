//! The room from outside: templates in, mail out.

mod helper;
mod hostile;
mod mail;
mod messages;
mod mistakes;
#[test]
fn zz_time() {
    use helper::*;
    let files: Vec<(String,String)> = std::fs::read_dir("/work/main/playbooks/saas/templates").unwrap().flatten().map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(e.path()).unwrap())).collect();
    let s = message::Sources(files.into_iter().collect());
    let t = std::time::Instant::now();
    let c = message::compile(&s, &model::TemplateName::known("win_back_nudge"), &locales()).unwrap();
    println!("compile {:?}", t.elapsed());
    let mut r = Reader::new(&[("first_name", text("Ana"))]); r.entry = values(&[("last_seen", text("2026-01-05"))]);
    let n = 2000;
    let t = std::time::Instant::now(); for _ in 0..n { r.render(&c).unwrap(); } println!("render {:?}", t.elapsed()/n);
    let m = r.render(&c).unwrap();
    println!("html {} text {}", m.html.as_ref().unwrap().len(), m.text.len());
    let to = model::EmailAddress::parse("a@b.test").unwrap(); let d = model::DeliveryId::known("abcdefghijklmnopqrstuvwxyz234567");
    let l = message::Letter{rendered:&m,from:"Acme <a@b.test>",reply_to:None,to:&to,to_name:Some("Ana"),delivery:&d,date:jiff::Timestamp::UNIX_EPOCH,list_id:Some("a.b"),unsubscribe_url:Some("https://x.test/u/abc"),test:false};
    let t = std::time::Instant::now(); for _ in 0..n { message::compose(&l).unwrap(); } println!("compose {:?}", t.elapsed()/n);
    let k=[message::token::Key{id:1,bytes:[1;32]}]; let cl=message::token::Claim{purpose:message::token::Purpose::Unsubscribe,profile:model::ProfileNumber(1),delivery:d.clone(),channel:model::Channel::Email};
    let t = std::time::Instant::now(); for _ in 0..n { message::token::issue(&k,&cl); } println!("token {:?}", t.elapsed()/n);
}
