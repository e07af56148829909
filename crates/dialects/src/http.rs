//! The HTTP requests that an application's clients and operators make besides the handshake: which path is what. The gateway answers
//! them.

use crate::Dialect;

/// One path on the application's own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// `GET` stands for `HEAD`, too.
    pub methods: &'static [&'static str],
    pub path: &'static str,
    pub endpoint: Endpoint,
}

/// What is answered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Whether the node serves.
    Health,
    /// What clients may say and hear.
    Docs,
    /// A page on which it is tried in a browser.
    TryPage,
    /// A token for a user of the development configuration.
    DevLogin,
    /// A socket token for the caller's session.
    IssueToken,
    /// How many are connected, in the form that the clients of `diet` know.
    SocketStatus,
    /// How many are connected, by role, and who: for administrators.
    ClientStats,
    /// The same for everybody; who is connected is for administrators.
    HealthStats,
}

const GET: &[&str] = &["GET"];

const TELEHEALTH: &[HttpRoute] = &[
    HttpRoute { methods: GET, path: "/health", endpoint: Endpoint::Health },
    HttpRoute { methods: GET, path: "/api/docs", endpoint: Endpoint::Docs },
    HttpRoute { methods: GET, path: "/api/docs/try", endpoint: Endpoint::TryPage },
    HttpRoute { methods: &["POST"], path: "/api/v1/auth/login", endpoint: Endpoint::DevLogin },
];

const CLINIC: &[HttpRoute] = &[
    HttpRoute { methods: GET, path: "/api/admin/websocket/stats", endpoint: Endpoint::ClientStats },
    HttpRoute { methods: GET, path: "/health/websocket", endpoint: Endpoint::HealthStats },
];

const PORTAL: &[HttpRoute] = &[HttpRoute {
    methods: &["GET", "POST"],
    path: "/api/rt/issue-socket-token",
    endpoint: Endpoint::IssueToken,
}];

const DIET: &[HttpRoute] =
    &[HttpRoute { methods: GET, path: "/api/socket", endpoint: Endpoint::SocketStatus }];

impl Dialect {
    /// The application's paths besides that of its clients' connections.
    pub fn http_routes(&self) -> &'static [HttpRoute] {
        match self {
            Self::Telehealth(_) => TELEHEALTH,
            Self::Clinic(_) => CLINIC,
            Self::Diet(_) => DIET,
            Self::Portal(_) => PORTAL,
            Self::Messenger(_) | Self::Conformance(_) => &[],
        }
    }

    /// Whether this user may see who is connected.
    pub fn is_administrator(&self, identity: &domain::Identity) -> bool {
        match self {
            Self::Clinic(it) => it.is_administrator(identity),
            _ => identity.role.as_deref() == Some("admin"),
        }
    }

    /// Ids that are decimal integers go out as JSON numbers.
    pub fn has_numeric_ids(&self) -> bool {
        matches!(self, Self::Clinic(_) | Self::Diet(_))
    }
}
