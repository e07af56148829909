//! Texts of notifications by language, with the defaults of the application they come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The languages that texts are written in: see [`NotificationSettings`](super::NotificationSettings).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    pub language: String,
    pub templates: BTreeMap<String, Templates>,
}

/// One language; what it leaves out is said in Turkish. `{name}` stands for the client's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// To the dietitian, when the client wrote.
    pub to_dietitian: String,
    /// To the client, when the dietitian wrote.
    pub to_client: String,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            to_dietitian: "Yeni mesaj: {name}".to_owned(),
            to_client: "Diyetisyeninizden yeni mesaj".to_owned(),
        }
    }
}

impl Texts {
    /// The texts of a language; `en` serves for `en-GB`.
    pub fn of(&self, language: Option<&str>) -> Templates {
        let base = |tag: &str| tag.split(['-', '_']).next().map(str::to_owned);
        let asked = language.and_then(|tag| self.find(tag).or_else(|| self.find(&base(tag)?)));
        // The defaults are Turkish without being configured.
        let is_turkish = language.and_then(base).is_some_and(|tag| tag.eq_ignore_ascii_case("tr"));
        let general = if is_turkish { None } else { self.find(&self.language) };
        asked.or(general).cloned().unwrap_or_default()
    }

    fn find(&self, tag: &str) -> Option<&Templates> {
        self.templates.iter().find(|(known, _)| known.eq_ignore_ascii_case(tag)).map(|(_, texts)| texts)
    }
}

impl Templates {
    /// A text with the name in its place; a name that looks like a placeholder stays as it is.
    pub fn fill(template: &str, name: &str) -> String {
        template.split("{name}").collect::<Vec<_>>().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_language_then_the_general_one_then_turkish() {
        let none = Texts::default();
        assert_eq!(none.of(None), Templates::default());
        assert_eq!(none.of(Some("en")).to_client, "Diyetisyeninizden yeni mesaj");
        let english = Templates { to_client: "A new message".into(), ..Templates::default() };
        let both = Texts { language: "en".into(), templates: [("en".into(), english.clone())].into() };
        for tag in [Some("en"), Some("EN"), Some("en-GB"), Some("fr"), None] {
            assert_eq!(both.of(tag), english, "{tag:?}");
        }
        assert_eq!(both.of(Some("tr-TR")), Templates::default());
    }

    #[test]
    fn names_are_filled_in_as_they_are() {
        let text = Templates::default().to_dietitian;
        assert_eq!(Templates::fill(&text, "Ayşe {name} \"x\""), "Yeni mesaj: Ayşe {name} \"x\"");
        assert_eq!(Templates::fill("none", "Ayşe"), "none");
    }
}
