//! Mistakes in the root files, one at a time, with all that is said of each.

/// File, what stands there, what is written instead, and what is said.
pub(super) const IN_ROOT_FILES: &[(&str, &str, &str, &[&str])] = &[
    (
        "drumbeat.yml",
        "timezone: Europe/Berlin",
        "timezone: Europe/Berlni",
        &[
            "E0105 drumbeat.yml:3:11+13 `Europe/Berlni` is not a time zone; a name of the IANA database, such as `Europe/Berlin` = did you mean `Europe/Berlin`?",
        ],
    ),
    (
        "drumbeat.yml",
        "locales: [en, de]",
        "locales: [en, German]",
        &["E0105 drumbeat.yml:4:15+6 `German` is not a language; a language such as `en` or `de-AT`"],
    ),
    (
        "drumbeat.yml",
        "deliver: local",
        "deliver: locally",
        &[
            "E0105 drumbeat.yml:5:10+7 `locally` is not where messages may go; one of `local`, `colleagues`, `all` = did you mean `local`?",
        ],
    ),
    ("drumbeat.yml", "version: 1", "version: 2", &["E0105 drumbeat.yml:1:10+1 `2` is not the number 1"]),
    (
        "drumbeat.yml",
        "  url: sqlite://warehouse.db",
        "  url: mysql://root:topsecret@db/shop",
        &[
            "E0105 drumbeat.yml:9:8+30 this is not the address of a database; `sqlite://PATH` or `postgres://...`",
        ],
    ),
    (
        "drumbeat.yml",
        "  statement_timeout: 30s",
        "  statement_timout: 30s",
        &["E0102 drumbeat.yml:11:3+16 unknown key `statement_timout` = did you mean `statement_timeout`?"],
    ),
    (
        "drumbeat.yml",
        "from: \"Acme <hello@acme.test>\"",
        "from: Acme hello@acme",
        &[
            "E0105 drumbeat.yml:15:11+15 this is not a sender; an address, or `Name <address>`: the part before `@` has a character that is not allowed, or a dot out of place",
        ],
    ),
    (
        "drumbeat.yml",
        "public_url: https://mail.acme.test/",
        "public_url: mail.acme.test",
        &[
            "E0105 drumbeat.yml:18:17+14 `mail.acme.test` is not a web address; such as `https://mail.acme.test`",
        ],
    ),
    (
        "drumbeat.yml",
        "domain: acme.test",
        "domain: acme",
        &["E0105 drumbeat.yml:20:20+4 `acme` is not a domain; a domain such as `acme.test`"],
    ),
    (
        "drumbeat.yml",
        "domain: acme.test",
        "domain: mail.acmee.test",
        &[
            "warning E0503 drumbeat.yml:20:20+15 the sender in `from` is of another domain: DMARC does not count this signature = sign with the domain of `from`, or one above it",
        ],
    ),
    (
        "drumbeat.yml",
        "selector: d1",
        "selector: d_1",
        &[
            "E0105 drumbeat.yml:20:41+3 `d_1` is not a selector; letters, digits and `-`, such as `d1`; parts are joined by `.`",
        ],
    ),
    (
        "drumbeat.yml",
        "key: {env: DKIM_KEY}",
        "key: {env: NO_KEY}",
        &[
            "E0105 drumbeat.yml:20:56+6 this is not a key that signs mail; a private key in PEM: it begins with `-----BEGIN PRIVATE KEY-----`",
        ],
    ),
    ("drumbeat.yml", ", key: {env: DKIM_KEY}", "", &["E0103 drumbeat.yml:20:5+4 the key `key` is missing"]),
    (
        "drumbeat.yml",
        "port: 1025",
        "port: 70000",
        &["E0105 drumbeat.yml:22:50+5 `port`: expected a whole number from 1 to 65535"],
    ),
    (
        "drumbeat.yml",
        "host: 127.0.0.1",
        "hots: 127.0.0.1",
        &["E0102 drumbeat.yml:22:27+4 unknown key `hots` = did you mean `host`?"],
    ),
    (
        "drumbeat.yml",
        "password: {env: MAIL_PASSWORD}",
        "password: {env: MAIL_PASWORD}",
        &["E0110 drumbeat.yml:22:72+12 cannot read the environment variable `MAIL_PASWORD`; it is not set"],
    ),
    (
        "drumbeat.yml",
        "password: {env: MAIL_PASSWORD}",
        "password: \"${MAIL_PASSWORD}\"",
        &[
            "warning E0111 drumbeat.yml:22:66+18 `${...}` is not replaced by anything here = write `{env: NAME}` for the whole value",
        ],
    ),
    (
        "drumbeat.yml",
        "rate: 200/s",
        "rate: 200 per second",
        &[
            "E0105 drumbeat.yml:22:105+14 `200 per second` is not a rate; a number and a unit, such as `200/s`, `50/m` or `1000/h`",
        ],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {gogle: {rate: 20/s}}",
        &[
            "E0103 drumbeat.yml:22:101+5 the key `domains` of group `gogle` is missing = did you mean `google`?",
        ],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {gmx: {rate: 20/s}}",
        &[
            "E0103 drumbeat.yml:22:101+3 the key `domains` of group `gmx` is missing = the domains of these groups are known: google, microsoft, yahoo, apple",
        ],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {other: {rate: 20/s, domains: [acme.test]}}",
        &[
            "E0108 drumbeat.yml:22:131+9 `other` is everybody who is in no other group = a group for these domains takes any other name",
        ],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {google: {rate: 20/s}, work: {rate: 5/s, domains: [Gmail.com]}}",
        &["E0106 drumbeat.yml:22:151+9 `gmail.com` is in group `google` and in group `work`"],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {work: {rate: 5/s, domains: [nowhere]}}",
        &[
            "E0105 drumbeat.yml:22:129+7 `nowhere` is not the domain of an address; the domain must be a full one, such as `example.com`",
        ],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {google: {burst: 5}}",
        &["E0103 drumbeat.yml:22:101+6 the key `rate` is missing"],
    ),
    (
        "drumbeat.yml",
        "throttle: {rate: 200/s, burst: 50}",
        "recipients: {google: {rate: 5/s, per: 1s}}",
        &["E0102 drumbeat.yml:22:121+3 unknown key `per` = known here: rate, burst, domains"],
    ),
    (
        "drumbeat.yml",
        "connector: smtp",
        "connector: smpt",
        &["E0201 drumbeat.yml:22:21+4 there is no connector `smpt` = did you mean `smtp`?"],
    ),
    (
        "drumbeat.yml",
        "connector: smtp",
        "connector: hubspot",
        &["E0903 drumbeat.yml:22:21+7 not yet: the connector `hubspot` is not built yet"],
    ),
    (
        "drumbeat.yml",
        "connector: smtp",
        "connector: text",
        &[
            "E0204 playbooks/other.yml:8:34+5 no destination sends mail = add one to drumbeat.yml under `destinations`",
            "E0204 playbooks/win_back.yml:20:23+5 no destination sends mail = add one to drumbeat.yml under `destinations`",
            "E0204 playbooks/win_back.yml:29:62+4 the destination `mail` does not send mail",
        ],
    ),
    (
        "drumbeat.yml",
        "serve: {admin: \"127.0.0.1:7800\"",
        "serve: {admin: 7800",
        &[
            "E0105 drumbeat.yml:24:16+4 `7800` is not an address to listen on; an IP address and a port, such as `\"127.0.0.1:7700\"`",
        ],
    ),
    (
        "drumbeat.yml",
        "opens: false",
        "opens: true",
        &["E0901 drumbeat.yml:19:20+4 not yet: tracking is not built yet"],
    ),
    (
        "drumbeat.yml",
        "  staging: {deliver",
        "  staging: {delivr",
        &["E0102 drumbeat.yml:26:13+6 unknown key `delivr` = did you mean `deliver`?"],
    ),
    (
        "drumbeat.yml",
        "environments:",
        "audit: {every: 60s}\nenvironments:",
        &["E0901 drumbeat.yml:25:1+5 not yet: `audit` is not built yet"],
    ),
    (
        "drumbeat.yml",
        "project: acme",
        "projekt: acme",
        &["E0102 drumbeat.yml:2:1+7 unknown key `projekt` = did you mean `project`?"],
    ),
    (
        "data.yml",
        "profiles:",
        "caps: {}\nprofiles:",
        &[
            "E0106 policy.yml:8:1+4 the key `caps` is there twice; the first is at data.yml:1 = each key of the root files stands in one of them",
        ],
    ),
    (
        "data.yml",
        "    trial_ends_at: time",
        "    trial_ends_at: timestamp",
        &[
            "E0105 data.yml:7:20+9 `timestamp` is not a type; one of `text`, `integer`, `number`, `boolean`, `date`, `time`, `json`",
        ],
    ),
    (
        "data.yml",
        "within: 26h",
        "within: 26 hours",
        &[
            "E0105 data.yml:9:62+8 `26 hours` is not a duration; a duration is a whole number and a unit: `90s`, `15m`, `12h`, `3d` or `2w`",
        ],
    ),
    (
        "data.yml",
        "    from customers",
        "    from customers where created_at < current_timestamp",
        &[
            "E0301 data.yml:4:39+17 `current_timestamp` reads the database's own clock = a run that cannot be repeated cannot be audited: use `:now` or `:today`, or `:now_minus_14d`, `:today_plus_3d`",
        ],
    ),
    (
        "policy.yml",
        "class: marketing}\n  product",
        "class: promo}\n  product",
        &["E0105 policy.yml:2:58+5 `promo` is not a class; one of `marketing`, `lifecycle`, `transactional`"],
    ),
    (
        "policy.yml",
        "brand: acme}",
        "brand: acmee}",
        &["E0201 policy.yml:3:53+5 there is no brand `acmee` = did you mean `acme`?"],
    ),
    (
        "policy.yml",
        "per: 1 calendar day",
        "per: 1 day",
        &[
            "E0105 policy.yml:9:62+5 `1 day` is not a window; a window is a duration such as `7d`, or `1 calendar day`, `1 calendar week`, `1 calendar month`",
        ],
    ),
    (
        "policy.yml",
        "max: 4",
        "max: -4",
        &["E0105 policy.yml:10:50+2 `-4` is not a whole number from 0 to 1000000"],
    ),
    (
        "data.yml",
        "accounts:\n  sql: select company_id as id, name, arr, tier from companies\n  columns: {arr: number, tier: {values: [gold, tin]}}\n",
        "",
        &[
            "E0103 policy.yml:14:39+12 `account` is asked for, and the key `accounts` is missing = say in data.yml what they are: `accounts: {sql: \"select account_id as id, name from accounts\"}`",
        ],
    ),
    (
        "data.yml",
        "  sql: select company_id as id, name, arr, tier from companies\n",
        "",
        &["E0103 data.yml:10:1+8 the key `sql` (or `sql_file`) is missing"],
    ),
    (
        "policy.yml",
        "scope: profile",
        "scope: acount",
        &[
            "E0105 policy.yml:10:133+6 `acount` is not whose messages a cap counts; one of `profile`, `account`, `address` = did you mean `account`?",
        ],
    ),
    (
        "policy.yml",
        "email: opt_in",
        "email: double_opt_in",
        &["E0901 policy.yml:7:26+13 not yet: `double_opt_in` is not built yet"],
    ),
    (
        "policy.yml",
        "to: \"08:00\", zone: profile",
        "zone: profile",
        &["E0108 policy.yml:12:3+6 `from` and `to` come together"],
    ),
    (
        "policy.yml",
        "from: \"21:00\"",
        "from: 9pm",
        &["E0105 policy.yml:12:60+3 `9pm` is not a time of day; hours and minutes, such as `\"09:00\"`"],
    ),
    (
        "policy.yml",
        "share: 5%",
        "share: 0.05",
        &[
            "E0105 policy.yml:15:18+4 `0.05` is not a share; a share is a percentage between 0% and 100%, such as `5%` or `0.5%`",
        ],
    ),
    (
        "policy.yml",
        "bounced: 2.5%",
        "bounced: 3",
        &[
            "E0105 policy.yml:16:61+1 `3` is not a share; a share is a percentage between 0% and 100%, such as `5%` or `0.5%`",
        ],
    ),
    (
        "policy.yml",
        "marketing: wait",
        "marketing: {resend: 15m}",
        &[
            "E0108 policy.yml:17:24+6 a message of class marketing is never sent twice by time = `{assume: 3d}` takes it for accepted, `wait` leaves it to a person",
        ],
    ),
    (
        "policy.yml",
        "transactional: {resend: 15m}",
        "transactional: {resend: 15m, assume: 3d}",
        &["E0108 policy.yml:17:70+6 it is either taken for accepted or sent again"],
    ),
    (
        "policy.yml",
        "lifecycle: {assume: 5d}",
        "lifecycle: never",
        &["E0105 policy.yml:17:40+5 `never` is not what becomes of a doubt; one of `wait`"],
    ),
];
