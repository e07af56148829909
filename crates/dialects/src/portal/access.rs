//! Who may enter the rooms of patients and doctors: by role and claim, or by the configured rules alone.

use domain::{Identity, Rights, RightsError, Rule, UserId};
use serde_json::Value;

/// Which roles of a token mean what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalRoles {
    /// Every patient and every doctor.
    pub staff: Vec<String>,
    /// Their own room, and the patients that the claim `patients` lists or the hook allows.
    pub doctor: Vec<String>,
    /// Their own room: that of the claim `patientId`, else of the user id. Who has no role counts as a patient.
    pub patient: Vec<String>,
}

impl Default for PortalRoles {
    fn default() -> Self {
        let one = |role: &str| vec![role.to_owned()];
        Self { staff: one("admin"), doctor: one("doctor"), patient: one("patient") }
    }
}

/// What is known about a right without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// No rule grants it; the application's hook may.
    AskHook,
    Denied,
}

#[derive(Debug)]
pub struct Access {
    roles: PortalRoles,
    /// Instead of the roles.
    rules: Option<Rights>,
}

impl Access {
    pub fn new(roles: PortalRoles, rules: Vec<Rule>) -> Result<Self, Vec<RightsError>> {
        let rules = if rules.is_empty() { None } else { Some(Rights::new(rules)?) };
        Ok(Self { roles, rules })
    }

    pub fn of(&self, identity: &Identity, room: &str) -> Verdict {
        let Some((kind, id)) = room.split_once(':').filter(|(_, id)| !id.is_empty()) else {
            return Verdict::Denied;
        };
        let granted = |granted| if granted { Verdict::Granted } else { Verdict::Denied };
        match (kind, &self.rules) {
            ("u", _) => granted(identity.user.as_str() == id),
            ("patient" | "doctor", Some(rules)) if rules.grants(identity, room) => Verdict::Granted,
            ("patient" | "doctor", Some(_)) => Verdict::AskHook,
            ("patient", None) => self.patient(identity, id),
            ("doctor", None) => granted(self.is(&self.roles.staff, identity) || self.is_own(identity, id)),
            _ => Verdict::Denied,
        }
    }

    /// The patient that the user is, as the token writes the id.
    pub fn own_patient(&self, identity: &Identity) -> Option<Value> {
        let claimed = identity.claims.get("patientId").filter(|value| UserId::from_json(value).is_some());
        claimed.cloned().or_else(|| self.is_patient(identity).then(|| identity.wire_id()))
    }

    fn patient(&self, identity: &Identity, id: &str) -> Verdict {
        let own = self.own_patient(identity).is_some_and(|own| is_id(&own, id));
        if own || self.is(&self.roles.staff, identity) {
            return Verdict::Granted;
        }
        if self.is_patient(identity) {
            return Verdict::Denied;
        }
        let is_doctor = self.is(&self.roles.doctor, identity);
        let listed = is_doctor && identity.claims.get("patients").is_some_and(|list| lists(list, id));
        if listed { Verdict::Granted } else { Verdict::AskHook }
    }

    /// A doctor's own room: that of the claim `doctorId`, else of the user id.
    fn is_own(&self, identity: &Identity, id: &str) -> bool {
        let own = identity.claims.get("doctorId").and_then(UserId::from_json);
        let own = own.as_ref().unwrap_or(&identity.user);
        self.is(&self.roles.doctor, identity) && own.as_str() == id
    }

    fn is_patient(&self, identity: &Identity) -> bool {
        identity.role.is_none() || self.is(&self.roles.patient, identity)
    }

    fn is(&self, roles: &[String], identity: &Identity) -> bool {
        identity.role.as_deref().is_some_and(|role| roles.iter().any(|known| known == role))
    }
}

/// Whether a JSON value is this id: `7` and `"7"` are the same.
fn is_id(value: &Value, id: &str) -> bool {
    UserId::from_json(value).is_some_and(|value| value.as_str() == id)
}

fn lists(list: &Value, id: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| is_id(item, id)))
}
