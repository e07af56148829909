//! The name of a namespace, parsed once at the edge.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A namespace: `/`, or `/` and a name. Holds no comma (it ends the namespace on the wire) and no query part. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Name);

// The main namespace is nearly all traffic and costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Name {
    Main,
    Custom(Arc<str>),
}

impl Namespace {
    /// The main namespace, `/`.
    pub const MAIN: Self = Self(Name::Main);

    /// From `/name`; a query part (`?` and what follows) is cut off. `None` without the leading slash or with a comma.
    pub fn new(name: &str) -> Option<Self> {
        let path = name.split_once('?').map_or(name, |(path, _query)| path);
        match path {
            "/" => Some(Self::MAIN),
            _ if path.starts_with('/') && !path.contains(',') => Some(Self(Name::Custom(path.into()))),
            _ => None,
        }
    }

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Main => "/",
            Name::Custom(name) => name,
        }
    }

    pub fn is_main(&self) -> bool {
        self.0 == Name::Main
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Namespace {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or("a namespace begins with a slash and holds no comma")
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.as_str().to_owned()
    }
}
