//! Who may enter what.

use domain::Rule;

use super::*;
use crate::portal::PortalRoles;
use crate::portal::access::{Access, Verdict};

#[test]
fn roles_and_claims_decide() {
    use Verdict::{AskHook, Denied, Granted};
    let access = Access::new(PortalRoles::default(), vec![]).unwrap();
    let admin = identity(json!({ "userId": 1, "role": "admin" }));
    let other = identity(json!({ "userId": 7, "role": "nurse", "patients": [9] }));
    let claimed = identity(json!({ "userId": 7, "role": "patient", "patientId": 70, "patients": [9] }));
    let nobody = identity(json!({ "userId": 7 }));
    let named = identity(json!({ "userId": 3, "role": "doctor", "doctorId": "d3", "patients": 7 }));
    let cases = [
        (&admin, "patient:99", Granted),
        (&admin, "doctor:99", Granted),
        (&admin, "u:99", Denied),
        (&patient(), "patient:7", Granted),
        (&patient(), "patient:8", Denied),
        (&patient(), "doctor:7", Denied),
        (&patient(), "u:7", Granted),
        (&claimed, "patient:70", Granted),
        (&claimed, "patient:7", Denied),
        (&claimed, "patient:9", Denied),
        (&nobody, "patient:7", Granted),
        (&nobody, "patient:8", Denied),
        // The ids of users and patients are not the same: another role's is no patient's.
        (&other, "patient:7", AskHook),
        (&other, "patient:9", AskHook),
        (&other, "doctor:7", Denied),
        (&doctor(), "doctor:3", Granted),
        (&doctor(), "doctor:4", Denied),
        (&doctor(), "patient:7", Granted),
        (&doctor(), "patient:8", Granted),
        (&doctor(), "patient:3", AskHook),
        (&named, "doctor:d3", Granted),
        (&named, "doctor:3", Denied),
        (&named, "patient:7", AskHook),
    ];
    for (who, room, verdict) in cases {
        assert_eq!(access.of(who, room), verdict, "{:?} {room}", who.claims);
    }
}

#[test]
fn staff_is_whom_the_settings_name() {
    let roles = PortalRoles { staff: vec!["admin".into(), "reception".into()], ..PortalRoles::default() };
    let access = Access::new(roles, vec![]).unwrap();
    let reception = identity(json!({ "userId": 1, "role": "reception" }));
    assert_eq!(access.of(&reception, "patient:99"), Verdict::Granted);
}

#[test]
fn configured_rules_stand_instead_of_the_roles() {
    let rule: Rule = serde_json::from_value(json!({ "room": "patient:*", "claim": "cases" })).unwrap();
    let access = Access::new(PortalRoles::default(), vec![rule]).unwrap();
    let who = identity(json!({ "userId": 7, "role": "patient", "cases": [5] }));
    let cases = [
        ("patient:5", Verdict::Granted),
        ("patient:7", Verdict::AskHook),
        ("doctor:7", Verdict::AskHook),
        ("u:7", Verdict::Granted),
        ("u:8", Verdict::Denied),
        ("other:5", Verdict::Denied),
    ];
    for (room, verdict) in cases {
        assert_eq!(access.of(&who, room), verdict, "{room}");
    }
}
