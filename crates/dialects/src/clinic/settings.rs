//! What the application's operator may say: the names of roles, what of other people's is private, how much of the feeds is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[app.clinic]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClinicSettings {
    /// The role that hears what administrators hear.
    pub administrator: String,
    /// The role that may subscribe to anybody's results and appointments.
    pub doctor: String,
    /// Entities whose instances belong to a patient: subscribing takes a right.
    pub private_entities: Vec<String>,
    /// Actions of `user:update` after which the user's connections are closed and tokens refused.
    pub deactivating: Vec<String>,
    /// Actions of `user:update` after which the user's tokens are good again.
    pub reactivating: Vec<String>,
    /// Entries of the audit feed that an administrator is given at once.
    pub audit_shown: u64,
    /// Entries of the audit feed that are kept.
    pub audit_kept: u64,
    /// Changes of the catalogue that are kept for clients that come back.
    pub catalog_kept: u64,
    /// Most entries of one answer.
    pub page_entries: u64,
    /// Characters of a name or message in a back end's call.
    pub text_chars: usize,
    /// Bytes of a result's PDF.
    pub pdf_bytes: usize,
}

impl Default for ClinicSettings {
    fn default() -> Self {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        Self {
            administrator: "Administrador".to_owned(),
            doctor: "Medico".to_owned(),
            private_entities: names(&[
                "appointment",
                "appointments",
                "patient",
                "patients",
                "result",
                "results",
                "user",
                "users",
            ]),
            deactivating: names(&["deactivated", "disabled", "deleted"]),
            reactivating: names(&["activated", "reactivated", "enabled", "restored"]),
            audit_shown: 50,
            audit_kept: 10_000,
            catalog_kept: 10_000,
            page_entries: 500,
            text_chars: 4096,
            // The whole event must fit nats-server's `max_payload` of 1 MiB.
            pdf_bytes: 900_000,
        }
    }
}
