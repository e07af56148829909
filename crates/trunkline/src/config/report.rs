//! Mistakes and their places: which file and line, variable or flag, and what to write instead.

use std::collections::HashSet;
use std::ops::Range;

use gateway::config::ConfigError;

use super::document::{Document, Removed};

/// One mistake, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `trunkline.toml:3:7`, `environment variable PORT` or `--set`.
    pub place: String,
    /// The dotted key; empty where there is none, as for a syntax error.
    pub key: String,
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.place, self.message),
            key => write!(f, "{}: {key}: {}", self.place, self.message),
        }
    }
}

/// Prints mistakes to standard error, one a line.
pub fn print_mistakes(mistakes: &[Mistake]) {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    let noun = if mistakes.len() == 1 { "mistake" } else { "mistakes" };
    eprintln!("{} {noun} in the configuration", mistakes.len());
}

/// Collects mistakes. Places are positions in one space: the file's bytes first, then one position for each override.
pub struct Reporter {
    file_name: String,
    file_text: String,
    /// Names of the overrides; the first has the position right after the file.
    origins: Vec<String>,
    mistakes: Vec<(usize, Mistake)>,
    /// Keys taken out of the document: checks of their defaults would be noise.
    removed: HashSet<String>,
}

impl Reporter {
    pub fn new(file: Option<&(String, String)>) -> Self {
        let (file_name, file_text) =
            file.cloned().unwrap_or_else(|| ("the configuration".to_owned(), String::new()));
        Self { file_name, file_text, origins: Vec::new(), mistakes: Vec::new(), removed: HashSet::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The position of a new override.
    pub fn origin(&mut self, name: &str) -> Range<usize> {
        self.origins.push(name.to_owned());
        let position = self.file_text.len() + self.origins.len();
        position..position + 1
    }

    pub fn add(&mut self, span: &Range<usize>, key: &str, message: String) {
        let mistake = Mistake { place: self.place(span.start), key: key.to_owned(), message };
        self.mistakes.push((span.start, mistake));
    }

    /// A mistake of a value that had to be taken out of the document.
    pub fn add_removed(&mut self, span: &Range<usize>, removed: Removed, message: &str) {
        let (Removed::Entry(key) | Removed::Item(key)) = &removed;
        let message = reword(message);
        // Everything an override put in stands at one place, so parts of it may have been taken out before.
        if !self.mistakes.iter().any(|(position, known)| *position == span.start && known.message == message)
        {
            self.add(span, key, message);
        }
        if let Removed::Entry(key) = removed {
            self.removed.insert(key);
        }
    }

    pub fn add_check(&mut self, document: &Document<'_>, error: ConfigError) {
        if !self.removed.contains(&error.path) {
            self.add(&document.locate(&error.path), &error.path, error.message);
        }
    }

    pub fn finish(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(position, _)| *position);
        self.mistakes.into_iter().map(|(_, mistake)| mistake).collect()
    }

    fn place(&self, position: usize) -> String {
        if let Some(origin) =
            position.checked_sub(self.file_text.len() + 1).and_then(|index| self.origins.get(index))
        {
            return origin.clone();
        }
        if self.file_text.is_empty() {
            return self.file_name.clone();
        }
        let before =
            String::from_utf8_lossy(&self.file_text.as_bytes()[..position.min(self.file_text.len())]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.file_name)
    }
}

/// serde's words, in those of the file: keys instead of fields, and the nearest known name.
fn reword(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (what, known) = match (message, names.split_first()) {
        (text, Some((name, known))) if text.starts_with("unknown field") => {
            (format!("unknown key `{name}`"), known)
        }
        (text, Some((name, known))) if text.starts_with("unknown variant") => {
            (format!("unknown value `{name}`"), known)
        }
        _ => return message.replace("missing field", "missing key"),
    };
    let given = names[0];
    match known.iter().min_by_key(|name| distance(given, name)) {
        Some(nearest) if distance(given, nearest) <= given.len().div_ceil(3) => {
            format!("{what}: did you mean `{nearest}`?")
        }
        Some(_) => format!("{what}: known are {}", known.join(", ")),
        None => what,
    }
}

/// Levenshtein's: single letters inserted, left out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_suggested_when_near() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(
            reword("unknown field `listn`, expected one of `admin`, `listen`"),
            "unknown key `listn`: did you mean `listen`?"
        );
        assert_eq!(
            reword("unknown field `zzz`, expected `admin` or `listen`"),
            "unknown key `zzz`: known are admin, listen"
        );
        assert_eq!(
            reword("unknown variant `offf`, expected one of `close`, `off`"),
            "unknown value `offf`: did you mean `off`?"
        );
        assert_eq!(
            reword("invalid type: string \"a\", expected u64"),
            "invalid type: string \"a\", expected u64"
        );
    }
}
