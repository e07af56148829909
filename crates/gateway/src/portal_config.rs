//! The `[app.portal]` section: which roles mean what, and whether a connection without a good token gets a grace.

use dialects::PortalRoles;
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Source;

/// What the `portal` dialect is told; of no meaning to the others.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortalConfig {
    /// Roles that may enter the rooms of every patient and every doctor.
    pub staff_roles: Vec<String>,
    /// Roles that may enter their own doctor's room, and those of the patients that the claim `patients` or the hook names.
    pub doctor_roles: Vec<String>,
    /// Roles that may enter their own patient's room; tokens without a role are taken for theirs.
    pub patient_roles: Vec<String>,
    /// Answers a connection without a good token with a CONNECT_ERROR, instead of `core:auth:error` and a grace of
    /// `limits.authenticate_timeout_ms`.
    pub refuse_at_once: bool,
}

impl Default for PortalConfig {
    fn default() -> Self {
        let PortalRoles { staff, doctor, patient } = PortalRoles::default();
        Self { staff_roles: staff, doctor_roles: doctor, patient_roles: patient, refuse_at_once: false }
    }
}

impl PortalConfig {
    pub fn roles(&self) -> PortalRoles {
        PortalRoles {
            staff: self.staff_roles.clone(),
            doctor: self.doctor_roles.clone(),
            patient: self.patient_roles.clone(),
        }
    }
}

/// Where this application's clients put their token, if the configuration does not say.
pub fn token_sources() -> [Source; 4] {
    [
        Source::ConnectAuth("socket_token".to_owned()),
        Source::Bearer,
        Source::Header(HeaderName::from_static("x-socket-token")),
        Source::Cookie("socket_token".to_owned()),
    ]
}
