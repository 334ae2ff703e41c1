fn main() {
    let a: Vec<String> = std::env::args().collect();
    let c = ["smtp", "file"].map(|name| project::KnownConnector { name, channel: model::Channel::Email, check: Box::new(|_| vec![]), schema: || serde_json::json!({"properties": {"host": {"type":"string"}, "port": {"type":"integer"}, "tls": {}, "throttle": {}}}) });
    match project::load(std::path::Path::new(&a[1]), a.get(2).map(String::as_str), &c, &|n| std::env::var(n).ok()) {
        Ok(l) => { println!("{:#?}", l.project); println!("{}", l.warnings.render(false)); println!("{:#?}", l.project.playbooks); }
        Err(d) => println!("{}", d.render(false)),
    }
}
