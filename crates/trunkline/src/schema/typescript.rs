//! The event maps of a contract for `Socket<ServerToClientEvents, ClientToServerEvents>` of socket.io-client.

use std::fmt::Write;

use dialects::{Contract, Said, Shape};

use super::shape;

const HEAD: &str = "\
/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;
";

const WITHOUT_ACKS: &str = "\
/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
";

pub fn module(contract: &Contract) -> String {
    let mut out = format!(
        "// The events of `{0}`: {1} Made by `trunkline contract typescript --dialect {0}`; do not edit.\n\n{HEAD}\n",
        contract.title, contract.about
    );
    let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("a String takes everything");
    for (name, text) in contract.types {
        line(format_args!("export type {name} = {};\n", typed(&shape(text))));
    }
    line(format_args!(
        "/** The ack of what was refused. */\nexport type Failure = {};\n",
        typed(&shape(contract.failure))
    ));
    line(format_args!("\n/** What clients say. */\nexport interface ClientToServerEvents {{\n"));
    for said in contract.says {
        line(format_args!("  /** {} */\n  \"{}\": {};\n", said.about, said.event, listener(said)));
    }
    line(format_args!("}}\n\n/** What clients hear. */\nexport interface ServerToClientEvents {{\n"));
    for heard in contract.hears {
        let payload = typed(&shape(heard.payload));
        line(format_args!(
            "  /** {} */\n  \"{}\": (payload: {payload}) => void;\n",
            heard.about, heard.event
        ));
    }
    line(format_args!("}}\n\n{WITHOUT_ACKS}"));
    out
}

fn listener(said: &Said) -> String {
    let payload = said.payload.map(|text| format!("payload: {}", typed(&shape(text))));
    let ack = said.ack.map(|text| format!("ack: (answer: {} | Failure) => void", typed(&shape(text))));
    let arguments: Vec<String> = payload.into_iter().chain(ack).collect();
    format!("({}) => void", arguments.join(", "))
}

fn typed(shape: &Shape) -> String {
    match shape {
        Shape::Name(name) if name == "integer" => "number".to_owned(),
        Shape::Name(text) | Shape::Literal(text) => text.clone(),
        Shape::List(inner) if matches!(**inner, Shape::OneOf(_)) => format!("({})[]", typed(inner)),
        Shape::List(inner) => format!("{}[]", typed(inner)),
        Shape::Map(inner) => format!("{{ [key: string]: {} }}", typed(inner)),
        Shape::Object(fields, is_open) => {
            let open = is_open.then(|| "[key: string]: unknown".to_owned());
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, may_lack, shape)| {
                    format!("{key}{}: {}", if *may_lack { "?" } else { "" }, typed(shape))
                })
                .chain(open)
                .collect();
            format!("{{ {} }}", fields.join("; "))
        }
        Shape::OneOf(shapes) => shapes.iter().map(typed).collect::<Vec<_>>().join(" | "),
    }
}
