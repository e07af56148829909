//! What an application's clients say and hear, as a table: the machine-readable contracts (AsyncAPI, TypeScript) are printed from it.
//!
//! Shapes are written as in TypeScript: `{ key: T, other?: T }` (further keys are ignored), `{ key: T, ... }` (further keys have a meaning), `T[]`, `T | U`, `"text"`, `true`,
//! `string`, `number`, `integer`, `boolean`, `null`, `unknown`, `Binary`, `{ [key]: T }`, and names: those of [`Contract::types`], `Id` (a
//! string, or a number where the client wrote one) and `Time` (ISO 8601 in UTC with milliseconds). Start at [`Contract`] and [`Shape::parse`].

/// One application's contract.
#[derive(Debug)]
pub struct Contract {
    pub title: &'static str,
    pub about: &'static str,
    /// Where its clients connect unless the configuration says otherwise.
    pub path: &'static str,
    pub namespace: &'static str,
    /// Names and shapes.
    pub types: &'static [(&'static str, &'static str)],
    /// The ack of whatever was refused.
    pub failure: &'static str,
    pub says: &'static [Said],
    pub hears: &'static [Heard],
}

/// An event from clients.
#[derive(Debug)]
pub struct Said {
    pub event: &'static str,
    /// The shape of its only argument; `None`: it has none.
    pub payload: Option<&'static str>,
    /// The shape of the ack when it was done; `None`: there is none.
    pub ack: Option<&'static str>,
    pub about: &'static str,
}

/// An event to clients, with one argument.
#[derive(Debug)]
pub struct Heard {
    pub event: &'static str,
    pub payload: &'static str,
    pub about: &'static str,
}

/// An event with a payload that is acknowledged.
pub(crate) const fn asks(
    event: &'static str,
    payload: &'static str,
    ack: &'static str,
    about: &'static str,
) -> Said {
    Said { event, payload: Some(payload), ack: Some(ack), about }
}

/// An event with a payload that is not acknowledged.
pub(crate) const fn says(event: &'static str, payload: &'static str, about: &'static str) -> Said {
    Said { event, payload: Some(payload), ack: None, about }
}

/// An event without a payload that is acknowledged.
pub(crate) const fn calls(event: &'static str, ack: &'static str, about: &'static str) -> Said {
    Said { event, payload: None, ack: Some(ack), about }
}

pub(crate) const fn hears(event: &'static str, payload: &'static str, about: &'static str) -> Heard {
    Heard { event, payload, about }
}

/// Errors where no ack was asked for.
pub(crate) const ERROR: &str = "{ message: string, code: string, event: string | null }";
pub(crate) const FAILURE: &str = "{ success: false, error: string, code: string }";

/// A shape, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `string`, `number`, `integer`, `boolean`, `null`, `unknown`, `Binary`, or a named shape.
    Name(String),
    /// The text, or `true` or `false`, as JSON.
    Literal(String),
    List(Box<Shape>),
    /// Keys, whether each may be left out, and what it holds; and whether further ones have a meaning.
    Object(Vec<(String, bool, Shape)>, bool),
    /// Any keys, each with this value.
    Map(Box<Shape>),
    OneOf(Vec<Shape>),
}

impl Shape {
    /// `None`: it is not written as it should be.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let shape = one_of(&mut rest)?;
        rest.trim().is_empty().then_some(shape)
    }

    /// The names in it.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Name(name) => vec![name],
            Self::Literal(_) => Vec::new(),
            Self::List(inner) | Self::Map(inner) => inner.names(),
            Self::Object(fields, _) => fields.iter().flat_map(|(_, _, shape)| shape.names()).collect(),
            Self::OneOf(shapes) => shapes.iter().flat_map(Self::names).collect(),
        }
    }
}

fn one_of(rest: &mut &str) -> Option<Shape> {
    let mut shapes = vec![list(rest)?];
    while take(rest, "|") {
        shapes.push(list(rest)?);
    }
    if shapes.len() == 1 { shapes.pop() } else { Some(Shape::OneOf(shapes)) }
}

fn list(rest: &mut &str) -> Option<Shape> {
    let mut shape = single(rest)?;
    while take(rest, "[]") {
        shape = Shape::List(Box::new(shape));
    }
    Some(shape)
}

fn single(rest: &mut &str) -> Option<Shape> {
    if take(rest, "(") {
        let shape = one_of(rest)?;
        return take(rest, ")").then_some(shape);
    }
    if take(rest, "{") {
        return object(rest);
    }
    if take(rest, "\"") {
        let (text, after) = rest.split_once('"')?;
        *rest = after;
        return Some(Shape::Literal(format!("\"{text}\"")));
    }
    match word(rest)? {
        literal @ ("true" | "false") => Some(Shape::Literal(literal.to_owned())),
        name => Some(Shape::Name(name.to_owned())),
    }
}

fn object(rest: &mut &str) -> Option<Shape> {
    if take(rest, "[key]:") {
        let shape = one_of(rest)?;
        return take(rest, "}").then(|| Shape::Map(Box::new(shape)));
    }
    let (mut fields, mut is_open) = (Vec::new(), false);
    while !take(rest, "}") {
        if !fields.is_empty() && !take(rest, ",") {
            return None;
        }
        if take(rest, "...") {
            is_open = true;
            continue;
        }
        let key = word(rest)?.to_owned();
        let may_lack = take(rest, "?");
        if !take(rest, ":") {
            return None;
        }
        fields.push((key, may_lack, one_of(rest)?));
    }
    Some(Shape::Object(fields, is_open))
}

fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    *rest = &text[end..];
    (end > 0).then(|| &text[..end])
}

fn take(rest: &mut &str, token: &str) -> bool {
    match rest.trim_start().strip_prefix(token) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
