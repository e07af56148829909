//! `trunkline config-reference`: every key of the configuration with its type, default and meaning, as a page. Owns the form; what
//! is said comes from the types that the configuration is read into, their defaults and their doc comments.

use std::collections::HashMap;
use std::fmt::Write;
use std::process::ExitCode;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::config::Config;

const HEAD: &str = "\
# Configuration reference

Every key, its type, its default and what it means. This page is printed by `trunkline config-reference` from the types that the
configuration is read into; `make contracts` writes it. How the parts fit together, with examples: [configuration.md](configuration.md).

A default in a column is what counts where the key is not given; *unset* means that there is none. `[[name]]` is a list of tables.
";

/// What stands for a default that there is none of.
const UNSET: &str = "*unset*";

/// Prints the page.
pub fn run() -> ExitCode {
    print!("{}", page());
    ExitCode::SUCCESS
}

fn page() -> String {
    let mut text = HEAD.to_owned();
    for section in sections() {
        section.print(&mut text);
    }
    text
}

/// A table of the configuration.
struct Section {
    /// As in the file: `[nats]`, `[[app]]`; empty: the top of the file.
    heading: String,
    about: String,
    body: Body,
}

enum Body {
    Keys(Vec<Key>),
    /// It has the keys of the section with this heading.
    SameAs(String),
}

struct Key {
    name: String,
    kind: String,
    default: String,
    about: String,
}

impl Section {
    fn print(&self, text: &mut String) {
        let heading =
            if self.heading.is_empty() { "Top of the file" } else { &format!("`{}`", self.heading) };
        let _ = write!(text, "\n## {heading}\n");
        if !self.about.is_empty() {
            let _ = write!(text, "{}\n\n", self.about);
        }
        match &self.body {
            Body::SameAs(other) => {
                let _ = writeln!(text, "The keys are those of `{other}`.");
            }
            Body::Keys(keys) => {
                text.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
                for key in keys {
                    let _ =
                        writeln!(text, "| `{}` | {} | {} | {} |", key.name, key.kind, key.default, key.about);
                }
            }
        }
    }
}

fn sections() -> Vec<Section> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let root = settings.into_generator().into_root_schema_for::<Config>();
    let mut walk = Walk { sections: Vec::new(), seen: HashMap::new() };
    walk.table("", "", String::new(), properties(root.as_value()).unwrap_or(&Map::new()));
    walk.sections
}

/// Goes through the tables in the order of the types.
struct Walk {
    sections: Vec<Section>,
    /// Headings by the names of their keys: what is used twice, or overrides another section, is printed once.
    seen: HashMap<Vec<String>, String>,
}

impl Walk {
    fn table(&mut self, path: &str, heading: &str, about: String, properties: &Map<String, Value>) {
        let identity: Vec<String> = properties.keys().cloned().collect();
        if let Some(other) = self.seen.get(&identity) {
            let body = Body::SameAs(other.clone());
            self.sections.push(Section { heading: heading.to_owned(), about, body });
            return;
        }
        self.seen.insert(identity, heading.to_owned());
        let (tables, plain): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(_, schema)| shape(schema).is_some());
        if !plain.is_empty() {
            let keys = plain.into_iter().map(|(name, schema)| Key::of(name, schema)).collect();
            self.sections.push(Section { heading: heading.to_owned(), about, body: Body::Keys(keys) });
        }
        for (name, schema) in tables {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.nested(&path, schema);
        }
    }

    fn nested(&mut self, path: &str, schema: &Value) {
        let about = text_of(schema);
        match shape(schema) {
            Some(Shape::Table(table)) => self.table(path, &format!("[{path}]"), about, table),
            Some(Shape::List(table, item)) => {
                let about = if item.is_empty() { about } else { format!("{about} {item}") };
                self.table(path, &format!("[[{path}]]"), about, table);
            }
            Some(Shape::Named(table)) => {
                let path = format!("{path}.<name>");
                self.table(&path, &format!("[{path}]"), about, table);
            }
            None => {}
        }
    }
}

impl Key {
    fn of(name: &str, schema: &Value) -> Self {
        let default = match schema.get("default") {
            None | Some(Value::Null) => UNSET.to_owned(),
            Some(Value::String(text)) if text == telemetry::REDACTED => UNSET.to_owned(),
            Some(value) => format!("`{value}`"),
        };
        let mut about = vec![text_of(schema)];
        about.extend(
            variants(schema)
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(value, text)| format!("`{value}`: {text}")),
        );
        Self {
            name: name.to_owned(),
            kind: kind(schema),
            default,
            about: about.join(" ").trim().replace('|', "\\|"),
        }
    }
}

/// What holds keys of its own.
enum Shape<'s> {
    Table(&'s Map<String, Value>),
    /// A list of tables, and what is said of one.
    List(&'s Map<String, Value>, String),
    /// Tables by names that the file chooses.
    Named(&'s Map<String, Value>),
}

fn shape(schema: &Value) -> Option<Shape<'_>> {
    let item = || schema.get("items").and_then(|item| Some(Shape::List(properties(item)?, text_of(item))));
    let named = || schema.get("additionalProperties").and_then(properties).map(Shape::Named);
    properties(schema).map(Shape::Table).or_else(item).or_else(named)
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The doc comment as one line; what is no value in Rust is unset in the file.
fn text_of(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("`None`", "unset")
}

/// The values of an enumeration, with what is said of them.
fn variants(schema: &Value) -> Vec<(&str, String)> {
    let list = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
    let plain = list("enum").filter_map(|value| Some((value.as_str()?, String::new())));
    let own = schema.get("const").and_then(Value::as_str).map(|value| (value, text_of(schema)));
    let nested = list("oneOf").chain(list("anyOf")).chain(schema.get("items")).flat_map(variants);
    plain.chain(own).chain(nested).collect()
}

fn kind(schema: &Value) -> String {
    let values: Vec<_> = variants(schema).into_iter().map(|(value, _)| format!("`\"{value}\"`")).collect();
    let types = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        // Optional: the type, and null.
        Some(Value::Array(names)) => names.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    match (types, values.is_empty()) {
        ("array", false) => format!("list of {}", values.join(", ")),
        (_, false) => values.join(", "),
        ("array", true) => format!("list of {}s", kind(&schema["items"])),
        ("object", true) => "table".to_owned(),
        ("", true) => "any".to_owned(),
        (name, true) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Inputs, load};

    /// `make contracts` writes it.
    #[test]
    fn the_committed_reference_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration-reference.md");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(committed, page(), "docs/configuration-reference.md is old: run `make contracts`");
    }

    #[test]
    fn every_key_says_what_it_means() {
        let mut silent = Vec::new();
        for section in sections() {
            let Body::Keys(keys) = section.body else { continue };
            silent.extend(
                keys.into_iter()
                    .filter(|key| key.about.is_empty())
                    .map(|key| format!("{} {}", section.heading, key.name)),
            );
        }
        assert!(silent.is_empty(), "no doc comment: {silent:#?}");
    }

    /// What is printed is what is read: a file with every default where the page says it stands has no unknown key and no wrong type.
    #[test]
    fn every_default_is_taken_where_it_stands() {
        let mut file = String::new();
        for section in sections() {
            let Body::Keys(keys) = &section.body else { continue };
            let _ = writeln!(file, "{}", section.heading.replace("<name>", "en"));
            for key in keys.iter().filter(|key| key.default != UNSET) {
                let _ = writeln!(file, "{} = {}", key.name, key.default.trim_matches('`'));
            }
        }
        let inputs = Inputs { file: Some(("all.toml".to_owned(), file)), ..Inputs::default() };
        let mistakes = load(&inputs).mistakes.into_iter().map(|mistake| mistake.to_string());
        // What is missing or is refused beside another key is no matter of types.
        let wrong: Vec<_> = mistakes
            .filter(|text| ["unknown", "invalid type", "expected"].iter().any(|word| text.contains(word)))
            .collect();
        assert_eq!(wrong, Vec::<String>::new());
    }
}
