//! Mistakes with their places, and which input is stronger.

use super::*;

const VISITS: &str = "[[app]]\nname = \"visits\"\n[app.token]\nsecret = \"s\"\n";

fn file(text: &str) -> Inputs {
    Inputs { file: Some(("t.toml".to_owned(), text.to_owned())), ..Inputs::default() }
}

fn with_environment(text: &str, environment: &[(&str, &str)]) -> Inputs {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Inputs { environment: environment.iter().map(pair).collect(), ..file(text) }
}

fn mistakes(inputs: &Inputs) -> Vec<String> {
    load(inputs).mistakes.iter().map(ToString::to_string).collect()
}

fn valid(inputs: &Inputs) -> Config {
    let loaded = load(inputs);
    assert_eq!(loaded.mistakes, []);
    loaded.config
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text = r#"log = "gateway=loud"
prodution = true
[http]
listen = ["127.0.0.1:80", "nowhere", "[::1]:x"]
[limits]
outbox_bytes = "many"
ping_interval_ms = 0
[nats]
servers = ["redis://h"]
replicas = 2
[[app]]
name = "Visits!"
dialect = "telehelth"
path = "socket.io"
cors_origin = ["x"]
[app.token]
algorithms = ["RS256", "XS1"]
secret = 12345
sources = ["auth.token", "url"]
[[app]]
name = "b"
token = { keys = [{ pem = "junk", kyd = "a" }], algorithms = ["ES256"] }
[[app.rights]]
room = "a*b*"
any = true
[[app.rights]]
any = true
"#;
    let expected = [
        "t.toml:1:1: log: `gateway=loud` is no log filter: ",
        "t.toml:2:1: prodution: unknown key `prodution`: did you mean `production`?",
        "t.toml:4:27: http.listen: invalid socket address syntax",
        "t.toml:4:38: http.listen: invalid socket address syntax",
        "t.toml:6:16: limits.outbox_bytes: invalid type: string \"many\", expected usize",
        "t.toml:7:1: limits.ping_interval_ms: must be at least 1",
        "t.toml:9:1: nats.servers: `redis://h` is no address",
        "t.toml:10:1: nats.replicas: must be 1, 3 or 5",
        "t.toml:12:1: app[0].name: must be 1 to 32 characters",
        "t.toml:13:11: app[0].dialect: unknown value `telehelth`: did you mean `telehealth`?",
        "t.toml:14:1: app[0].path: must start with `/`",
        "t.toml:15:1: app[0].cors_origin: unknown key `cors_origin`: did you mean `cors_origins`?",
        "t.toml:17:1: app[0].token.algorithms: RS256 has no key: add one to keys",
        "t.toml:17:24: app[0].token.algorithms: unknown value `XS1`",
        "t.toml:18:10: app[0].token.secret: a secret must be a string",
        "t.toml:19:26: app[0].token.sources: `url` is no token source",
        "t.toml:22:21: app[1].token.keys[0].pem: no RSA, EC or Ed25519 public key",
        "t.toml:22:35: app[1].token.keys[0].kyd: unknown key `kyd`: did you mean `kid`?",
        "t.toml:23:7: app[1].rights: rule for `a*b*`: more than one `*`",
        "t.toml:26:1: app[1].rights: missing key `room`",
    ];
    let found = mistakes(&file(text));
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "\n   found {found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.concat().contains("12345"), "secrets are not quoted");
}

#[test]
fn syntax_errors_are_reported_together_with_wrong_keys() {
    let found = mistakes(&file("log = \n[http]\nadmn = \"127.0.0.1:1\"\nlisten = [\"127.0.0.1:80\"\n"));
    assert!(found.iter().any(|line| line.starts_with("t.toml:1:")), "{found:#?}");
    assert!(found.iter().any(|line| line.contains("did you mean `admin`?")), "{found:#?}");
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let text =
        format!("log = \"warn\"\n[limits]\noutbox_bytes = 1\nattachments = 1\nmax_sessions = 1\n{VISITS}");
    let mut inputs = with_environment(
        &text,
        &[
            ("TRUNKLINE_LIMITS__OUTBOX_BYTES", "2"),
            ("TRUNKLINE_LIMITS__ATTACHMENTS", "2"),
            ("TRUNKLINE_LOG", "debug"),
            ("TRUNKLINE_NATS__SERVERS", "nats://a:1, nats://b:2"),
            ("TRUNKLINE_NATS__TOKEN", "12345"),
            ("TRUNKLINE_HTTP__LISTEN", r#"["0.0.0.0:1"]"#),
            ("TRUNKLINE_HTTP__ADMIN", "127.0.0.1:9"),
            ("TRUNKLINE_APP__VISITS__TOKEN__LEEWAY_S", "5"),
            ("TRUNKLINE_CONFIG", "t.toml"),
            ("TRUNKLINE_SERVICE_HOST", "10.0.0.1"),
            ("TRUNKLINE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("OTHER", "1"),
        ],
    );
    let flag = |flag: &str, path: &str, value: &str| Setting {
        flag: flag.into(),
        path: path.into(),
        value: value.into(),
    };
    inputs.flags = vec![
        flag("--set", "limits.attachments", "3"),
        flag("--set", "app[0].path", "/io/"),
        flag("--listen", "http.listen", "127.0.0.1:2,[::1]:2"),
    ];
    let config = valid(&inputs);
    assert_eq!(
        (config.limits.max_sessions, config.limits.outbox_bytes, config.limits.attachments),
        (1, 2, 3)
    );
    assert_eq!(config.log, "debug");
    assert_eq!(config.nats.servers, ["nats://a:1", "nats://b:2"]);
    assert_eq!(config.nats.token.map(|token| token.expose().clone()).as_deref(), Some("12345"));
    assert_eq!(config.http.listen, ["127.0.0.1:2".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.http.admin, Some("127.0.0.1:9".parse().unwrap()));
    assert_eq!(config.app[0].path, "/io/");
    assert_eq!(config.app[0].token.as_ref().map(|token| token.leeway_s), Some(5));
}

#[test]
fn wrong_overrides_name_their_origin() {
    let mut inputs = with_environment(
        VISITS,
        &[
            ("TRUNKLINE_LIMITS__OUTBOX", "2"),
            ("TRUNKLINE_APP__CHAT__PATH", "/x"),
            ("TRUNKLINE_LOGG", "info"),
            ("PORT", "99999"),
        ],
    );
    let flag =
        |path: &str, value: &str| Setting { flag: "--set".into(), path: path.into(), value: value.into() };
    inputs.flags = vec![
        flag("limits.attachments", "few"),
        flag("log.level", "1"),
        flag("app[5].path", "/x"),
        flag("http.admin", "8"),
    ];
    let expected = [
        "environment variable PORT: http.listen: `99999` is no port",
        "environment variable TRUNKLINE_LIMITS__OUTBOX: limits.outbox: unknown key `outbox`: ",
        "environment variable TRUNKLINE_APP__CHAT__PATH: app.chat.path: no application is named `chat`",
        "environment variable TRUNKLINE_LOGG: logg: unknown key `logg`: did you mean `log`?",
        "--set: limits.attachments: invalid type: string \"few\", expected usize",
        "--set: log.level: invalid type: map, expected a string",
        "--set: app.5.path: there is no app[5]",
        "--set: http.admin: invalid socket address syntax",
    ];
    let found = mistakes(&inputs);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "\n   found {found}\nexpected {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_applications_own_variables_work() {
    let text = "[[app]]\nname = \"a\"\n[[app]]\nname = \"b\"\npath = \"/b\"\ncors_origins = [\"https://b\"]\n[app.token]\nsecret = \"own\"\n";
    let variables = [
        ("JWT_SECRET", "[shared"),
        ("CORS_ORIGINS", "https://x, http://y:3000"),
        ("PORT", "3001"),
        ("HOST", "localhost"),
    ];
    let config = valid(&with_environment(text, &variables));
    let secret = |index: usize| config.app[index].token.clone().unwrap().secret.unwrap().expose().clone();
    assert_eq!([secret(0), secret(1)], ["[shared", "own"]);
    assert_eq!(config.app[0].cors_origins, ["https://x", "http://y:3000"]);
    assert_eq!(config.app[1].cors_origins, ["https://b"]);
    assert_eq!(config.http.listen, ["127.0.0.1:3001".parse().unwrap(), "[::1]:3001".parse().unwrap()]);
    let stronger = with_environment(
        text,
        &[("JWT_SECRET", "x"), ("PORT", "3001"), ("TRUNKLINE_HTTP__LISTEN", "0.0.0.0:80")],
    );
    assert_eq!(valid(&stronger).http.listen, ["0.0.0.0:80".parse().unwrap()]);
}

#[test]
fn a_configuration_may_come_from_the_environment_alone() {
    let inputs = Inputs {
        file: None,
        environment: vec![
            ("TRUNKLINE_APP__0__NAME".to_owned(), "visits".to_owned()),
            ("TRUNKLINE_APP__0__TOKEN__SECRET".to_owned(), "s".to_owned()),
        ],
        ..Inputs::default()
    };
    assert_eq!(valid(&inputs).app[0].name, "visits");
    assert_eq!(
        mistakes(&Inputs::default()),
        ["the configuration: app: no application is configured: add an [[app]] section"]
    );
}

#[test]
fn a_portal_has_its_own_defaults_and_its_mistakes_are_said_once() {
    let portal = "[[app]]\nname = \"portal\"\ndialect = \"portal\"\n[app.issue]\n";
    let config = valid(&with_environment(portal, &[("JWT_SECRET", "x")]));
    let sources = |token: &gateway::auth::TokenConfig| {
        token.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let app = &config.app[0];
    let expected = "auth.socket_token bearer header:x-socket-token cookie:socket_token";
    assert_eq!(sources(app.token.as_ref().unwrap()), expected);
    assert_eq!(sources(&app.issue.as_ref().unwrap().session), "bearer cookie:session");
    assert_eq!(mistakes(&file(portal)).len(), 1, "there is no key");
    let late = with_environment(&format!("{portal}ttl_s = 0\n"), &[("JWT_SECRET", "x")]);
    assert_eq!(mistakes(&late), ["t.toml:5:1: app[0].issue.ttl_s: must be at least 1"]);
    // A coordinator issues no tokens and has no keys.
    assert_eq!(mistakes(&Inputs { role: Role::Coordinator, ..file(portal) }), [""; 0]);
}

#[test]
fn the_conformance_dialect_stays_alone_and_out_of_production() {
    let suite = "[[app]]\nname = \"suite\"\ndialect = \"conformance\"\nprofile = \"socketio\"\n";
    valid(&with_environment(suite, &[("JWT_SECRET", "x")]));
    let found = mistakes(&file(&format!("production = true\n{suite}")));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("t.toml:4:1: app[0].dialect: ") && found[0].contains("production = true"),
        "{found:?}"
    );
    let found = mistakes(&file(&format!("{suite}path = \"/x\"\n{VISITS}")));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("beside an application that asks for tokens"), "{found:?}");
    let found = mistakes(&file("[[app]]\nname = \"suite\"\ndialect = \"conformance\"\n"));
    assert!(found[0].contains("needs `profile`"), "{found:?}");
}

#[test]
fn applications_must_be_told_apart() {
    let found = mistakes(&file(&format!("{VISITS}{VISITS}")));
    let expected = [
        "t.toml:5:1: app[1].namespace: no socket can tell this application from app[0]: they share listener, host, path and namespace",
        "t.toml:6:1: app[1].name: `visits` is already the name of app[0]",
    ];
    assert_eq!(found, expected);
    valid(&file(&format!("{VISITS}[[app]]\nname = \"b\"\nhosts = [\"b.example\"]\ntoken.secret = \"s\"\n")));
}

#[test]
fn the_printed_configuration_is_one_and_shows_no_secret() {
    let config = valid(&with_environment(VISITS, &[("TRUNKLINE_NATS__TOKEN", "hunter2")]));
    let text = toml::to_string(&config).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(valid(&file(&text)).app[0].name, "visits");
}

#[test]
fn an_application_without_tokens_must_be_meant() {
    let diet = |more: &str| format!("{more}\n[[app]]\nname = \"d\"\ndialect = \"diet\"\nauth = \"none\"\n");
    assert!(valid(&file(&diet(""))).gateway().app[0].token.is_none());
    let with_key = with_environment(&diet(""), &[("JWT_SECRET", "s")]);
    assert_eq!(mistakes(&with_key), [""; 0], "a key for other applications does no harm");
    assert!(valid(&with_key).gateway().app[0].token.is_none(), "and is not asked of its clients");
    let refused = mistakes(&file(&diet("production = true")));
    assert!(refused.len() == 1 && refused[0].contains("acknowledge_no_auth = true"), "{refused:?}");
    let meant = format!("{}acknowledge_no_auth = true\n", diet("production = true"));
    assert_eq!(mistakes(&file(&meant)), [""; 0]);
    let other = diet("").replace("\"diet\"", "\"telehealth\"");
    let refused = mistakes(&file(&other));
    assert!(refused.len() == 1 && refused[0].contains("for the diet dialect only"), "{refused:?}");
    let without = diet("").replace("\"none\"", "\"jwt\"");
    assert!(mistakes(&file(&without))[0].contains("no key to verify tokens with"));
}

#[test]
fn notifications_have_bounds() {
    let text = |setting: &str| format!("{VISITS}[app.notifications]\n{setting}\n");
    for setting in ["per_user = 0", "per_user = 901", "max_age_s = 0", "bytes = 0", "page = 0", "page = 300"]
    {
        let refused = mistakes(&file(&text(setting)));
        assert!(refused.len() == 1 && refused[0].contains("app[0].notifications."), "{setting}: {refused:?}");
    }
    let texts = text("language = \"en\"\n[app.notifications.templates.en]\nto_client = \"Hello\"");
    assert_eq!(valid(&file(&texts)).gateway().app[0].notifications.templates["en"].to_client, "Hello");
}

#[test]
fn keys_of_back_ends_and_users_for_development_are_checked() {
    let text = r#"
production = true
[[api.keys]]
name = "shop"
secret = "short"
apps = ["visits", "other"]
[[api.keys]]
name = "shop"
secret = "0123456789abcdef"
scopes = ["read", "write"]
[[app]]
name = "visits"
token = { secret = "s" }
dev_users = [{ email = "a@example.org", password = "p", user = 7 }]
[[app]]
name = "api"
path = "/api/"
token = { secret = "s" }
"#;
    let found = mistakes(&Inputs { file: Some(("t.toml".to_owned(), text.to_owned())), ..Inputs::default() });
    let keys: Vec<&str> = found.iter().map(|line| line.split(": ").nth(1).unwrap_or_default()).collect();
    let expected = [
        "api.keys[0].scopes",
        "api.keys[0].secret",
        "api.keys[0].apps",
        "api.keys[1].name",
        "api.keys[1].scopes",
        "app[0].dev_users[0]",
        "app[1].name",
    ];
    for key in expected {
        assert!(keys.contains(&key), "{key} of {found:#?}");
    }
    assert!(!format!("{found:?}").contains("short"));
}
