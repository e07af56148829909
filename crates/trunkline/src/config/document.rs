//! The TOML document before it has types: values with their places, set by path and taken out by place.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Config;
use super::overrides::Override;
use super::report::Reporter;

pub struct Document<'i> {
    root: DeTable<'i>,
}

impl<'i> Document<'i> {
    /// What can be read of `text`; syntax errors go to the reporter.
    pub fn parse(text: &'i str, reporter: &mut Reporter) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reporter.add(&error.span().unwrap_or_default(), "", error.message().to_owned());
        }
        Self { root: root.into_inner() }
    }

    /// Types the document. A value that does not fit is reported, taken out, and the rest tried again, so that every mistake
    /// is found; an override that does not fit is first tried in its other readings.
    pub fn deserialize(&mut self, mut overrides: Vec<Override<'i>>, reporter: &mut Reporter) -> Config {
        loop {
            let root = Spanned::new(0..0, self.root.clone());
            let error = match Config::deserialize(toml::de::Deserializer::from(root)) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let reread = overrides
                .iter_mut()
                .find(|known| known.span == span)
                .and_then(|known| known.reread(error.message()));
            if let Some((path, value)) = reread {
                self.set(&path, &span, value).expect("the path was set before");
                continue;
            }
            match remove_from_table(&mut self.root, &span, "") {
                Some(removed) => reporter.add_removed(&span, removed, error.message()),
                None => {
                    reporter.add(&span, "", error.message().to_owned());
                    return Config::default();
                }
            }
        }
    }

    pub fn get(&self, path: &[String]) -> Option<&DeValue<'i>> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(first.as_str())?.get_ref(), |value, name| {
            child(value, name).map(Spanned::get_ref)
        })
    }

    /// The applications' tables, in their order.
    pub fn apps(&self) -> impl Iterator<Item = Option<&DeTable<'i>>> {
        let apps = self.root.get("app").and_then(|apps| apps.get_ref().as_array());
        apps.into_iter().flat_map(|apps| apps.iter()).map(|app| app.get_ref().as_table())
    }

    /// Sets a value, making the tables on the way. An index right after the last one appends.
    ///
    /// # Errors
    /// The key that is no table, or the index that does not exist.
    pub fn set(&mut self, path: &[String], span: &Range<usize>, value: DeValue<'i>) -> Result<(), String> {
        let (last, parents) = path.split_last().ok_or("the key is empty")?;
        let mut table = &mut self.root;
        let mut walked = parents.iter().peekable();
        while let Some(name) = walked.next() {
            let index = walked.next_if(|next| next.parse::<usize>().is_ok());
            table = child_table(table, name, index, span)?;
        }
        table.insert(Spanned::new(span.clone(), Cow::Owned(last.clone())), Spanned::new(span.clone(), value));
        Ok(())
    }

    /// The place of a key like `app[0].token.secret`, or of the nearest thing around it that is there.
    pub fn locate(&self, key: &str) -> Range<usize> {
        let names = key.split(['.', '[']).map(|name| name.trim_end_matches(']'));
        let mut span = 0..0;
        let mut within: Option<&DeValue<'i>> = None;
        for name in names {
            let found = match within {
                None => self.root.get_key_value(name).map(|(key, value)| (key.span(), value)),
                Some(DeValue::Table(table)) => {
                    table.get_key_value(name).map(|(key, value)| (key.span(), value))
                }
                Some(value) => child(value, name).map(|value| (value.span(), value)),
            };
            let Some((place, value)) = found else { break };
            span = place;
            within = Some(value.get_ref());
        }
        span
    }
}

fn child<'a, 'i>(value: &'a DeValue<'i>, name: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    match value {
        DeValue::Table(table) => table.get(name),
        DeValue::Array(array) => array.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The table `name`, or the table at `index` of the array `name`.
fn child_table<'a, 'i>(
    table: &'a mut DeTable<'i>,
    name: &str,
    index: Option<&String>,
    span: &Range<usize>,
) -> Result<&'a mut DeTable<'i>, String> {
    let empty = |value| Spanned::new(span.clone(), value);
    if table.get(name).is_none() {
        let made =
            if index.is_some() { DeValue::Array(DeArray::new()) } else { DeValue::Table(DeTable::new()) };
        table.insert(Spanned::new(span.clone(), Cow::Owned(name.to_owned())), empty(made));
    }
    let value = table.get_mut(name).expect("it was inserted above").get_mut();
    let value = match (value, index) {
        (DeValue::Array(array), Some(index)) => {
            let index: usize = index.parse().map_err(|_| format!("`{index}` is no index"))?;
            if index == array.len() {
                array.push(empty(DeValue::Table(DeTable::new())));
            }
            array.get_mut(index).ok_or_else(|| format!("there is no {name}[{index}]"))?.get_mut()
        }
        (value, None) => value,
        (_, Some(_)) => return Err(format!("`{name}` is no list")),
    };
    match value {
        DeValue::Table(table) => Ok(table),
        _ => Err(format!("`{name}` is no section")),
    }
}

/// What was taken out of the document.
pub enum Removed {
    /// The key and its value.
    Entry(String),
    /// An item of the list with this key; the others stay.
    Item(String),
}

/// Takes out the innermost entry or item whose key or value stands at `span`.
fn remove_from_table(table: &mut DeTable<'_>, span: &Range<usize>, at: &str) -> Option<Removed> {
    let key_at = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    for (name, value) in table.iter_mut() {
        if let Some(removed) = remove_from_value(value.get_mut(), span, &key_at(name.get_ref())) {
            return Some(removed);
        }
    }
    let (name, _) = table.iter().find(|(name, value)| name.span() == *span || value.span() == *span)?;
    let name = name.get_ref().clone();
    table.remove(&*name);
    Some(Removed::Entry(key_at(&name)))
}

fn remove_from_value(value: &mut DeValue<'_>, span: &Range<usize>, at: &str) -> Option<Removed> {
    match value {
        DeValue::Table(table) => remove_from_table(table, span, at),
        DeValue::Array(array) => {
            for (index, item) in array.iter_mut().enumerate() {
                if let Some(removed) = remove_from_value(item.get_mut(), span, &format!("{at}[{index}]")) {
                    return Some(removed);
                }
            }
            let gone = array.iter().position(|item| item.span() == *span)?;
            let kept = std::mem::replace(array, DeArray::new()).into_iter().enumerate();
            *array = kept.filter(|(index, _)| *index != gone).map(|(_, item)| item).collect();
            Some(Removed::Item(at.to_owned()))
        }
        _ => None,
    }
}
