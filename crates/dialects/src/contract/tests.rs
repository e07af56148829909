//! The contracts are written as they should be, say no more and no less than the dialects do.

use std::collections::BTreeSet;
use std::path::Path;

use domain::notification::NotificationSettings;
use domain::{ChatLimits, Identity, UserId};

use super::*;
use crate::*;

const BUILT_IN: [&str; 9] =
    ["string", "number", "integer", "boolean", "null", "unknown", "Binary", "Id", "Time"];

fn chat_limits() -> ChatLimits {
    ChatLimits {
        max_message_chars: 100,
        max_attachments: 1,
        max_attachment_bytes: 100,
        max_metadata_bytes: 100,
    }
}

fn dialects() -> Vec<Dialect> {
    let realtime = Realtime::default;
    let portal = PortalSettings {
        roles: PortalRoles::default(),
        rules: Vec::new(),
        chat: chat_limits(),
        max_rooms: 10,
        refuse_at_once: false,
    };
    let texts = NotificationSettings::default().texts();
    vec![
        Dialect::Telehealth(Telehealth::new("/", Vec::new(), chat_limits(), realtime()).unwrap()),
        Dialect::Messenger(Messenger::new("/", Vec::new(), realtime()).unwrap()),
        Dialect::Portal(Portal::new("/", portal).unwrap()),
        Dialect::Clinic(Clinic::new("/", Vec::new(), ClinicSettings::default()).unwrap()),
        Dialect::Diet(Diet::new("/", Vec::new(), DietAccess::Token, texts).unwrap()),
    ]
}

#[test]
fn every_shape_is_written_as_it_should_be() {
    for contract in CONTRACTS {
        let own: BTreeSet<&str> = contract.types.iter().map(|(name, _)| *name).collect();
        let said = contract.says.iter().flat_map(|it| it.payload.into_iter().chain(it.ack));
        let heard = contract.hears.iter().map(|it| it.payload);
        let types = contract.types.iter().map(|(_, shape)| *shape);
        for text in said.chain(heard).chain(types).chain([contract.failure]) {
            let shape = Shape::parse(text).unwrap_or_else(|| panic!("{}: {text}", contract.title));
            for name in shape.names() {
                assert!(BUILT_IN.contains(&name) || own.contains(name), "{}: {name}", contract.title);
            }
        }
        let events: BTreeSet<&str> = contract.says.iter().map(|it| it.event).collect();
        assert_eq!(events.len(), contract.says.len(), "{}", contract.title);
        let events: BTreeSet<&str> = contract.hears.iter().map(|it| it.event).collect();
        assert_eq!(events.len(), contract.hears.len(), "{}", contract.title);
    }
}

#[test]
fn shapes_are_read_and_nonsense_is_not() {
    let shape = Shape::parse("{ a: (string | null)[], b?: \"x\" | true, c: { [key]: Id }, ... }").unwrap();
    assert_eq!(shape.names(), ["string", "null", "Id"]);
    for text in
        ["", "{", "{ a }", "{ a: }", "string |", "{ a: string b: string }", "string string", "(a", "\"x"]
    {
        assert_eq!(Shape::parse(text), None, "{text}");
    }
}

/// What a client says according to the contract is no unknown event, and what is not in it is one.
#[test]
fn dialects_know_what_their_contracts_say() {
    for dialect in dialects() {
        let contract = dialect.contract().unwrap();
        for said in contract.says {
            assert!(!is_unknown(&dialect, said.event), "{}: {}", contract.title, said.event);
            assert!(dialect.knows(said.event) && !dialect.knows("no:such:event"));
        }
        assert!(is_unknown(&dialect, "no:such:event"), "{}", contract.title);
    }
}

fn is_unknown(dialect: &Dialect, event: &str) -> bool {
    let identity = Identity {
        user: UserId::new("7").unwrap(),
        numeric: false,
        role: Some("Administrador".into()),
        name: None,
        token_id: None,
        expires_at: None,
        claims: serde_json::Map::new(),
    };
    let socket = Socket {
        id: "s",
        namespace: "/",
        identity: Some(&identity),
        memberships: &[],
        placed: &[],
        calls: &[],
        handshake: None,
        stage: 0,
        granted: &[],
    };
    let inbound = Inbound { name: event, args: &[], attachments: &[], wants_ack: true, now_ms: 0 };
    dialect.event(&socket, &inbound).iter().any(|action| match action {
        Action::Ack(out) => String::from_utf8_lossy(&out.tail).contains("\"unknown_event\""),
        _ => false,
    })
}

/// No event is told or understood that the contract does not name: every literal of the sources that looks like an event is in it.
#[test]
fn contracts_name_every_event_of_the_sources() {
    for contract in CONTRACTS {
        let known: BTreeSet<&str> =
            contract.says.iter().map(|it| it.event).chain(contract.hears.iter().map(|it| it.event)).collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(contract.title);
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".rs") || name == "tests.rs" || name == "contract.rs" {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            // Examples of back ends' calls name events of the application's own.
            for line in source.lines().filter(|line| !line.contains("example:")) {
                for literal in line.split('"').skip(1).step_by(2).filter(|it| looks_like_an_event(it)) {
                    seen += 1;
                    assert!(known.contains(literal), "{}: {literal} in {name}", contract.title);
                }
            }
        }
        assert!(seen > 0 || contract.title == "diet", "{}", contract.title);
    }
}

fn looks_like_an_event(text: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    text.contains(':') && text.split(':').all(is_word)
}
