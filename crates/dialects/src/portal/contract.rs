//! The contract of `portal` for machines; docs/portal.md is the one for people.

use crate::contract::{Contract, Heard, Said, asks, hears};

pub static CONTRACT: Contract = Contract {
    title: "portal",
    about: "Admin panel and patient app of a clinic.",
    path: "/socket.io",
    namespace: "/events",
    types: &[
        (
            "Message",
            "{ id: string, patientId: Id, senderId: Id, senderRole?: string, senderName?: string, text: string, attachments: unknown[], metadata: { [key]: unknown }, createdAt: Time }",
        ),
        ("Rooms", "string | string[] | { room: string } | { rooms: string[] }"),
    ],
    failure: "{ ok: false, error: string, code: string }",
    says: SAYS,
    hears: HEARS,
};

const APPOINTMENT: &str = "{ appointment: unknown, patientId: Id, doctorId?: Id }";

const SAYS: &[Said] = &[
    asks(
        "join",
        "Rooms",
        "{ ok: boolean, joined: string[], denied: string[] }",
        "Enters what the rights allow.",
    ),
    asks("leave", "Rooms", "{ ok: true, left: string[] }", "Leaves rooms."),
    asks(
        "message:send",
        "{ patientId?: Id, text?: string, message?: string, content?: string, attachments?: unknown[], metadata?: { [key]: unknown } }",
        "{ ok: true, message: Message }",
        "Stores a message and tells it to the patient's room.",
    ),
    asks(
        "authorization",
        "string | { socket_token: string } | { socketToken: string } | { token: string }",
        "{ ok: true, rooms: string[] }",
        "Shows a token, on a connection without one or in place of the old one.",
    ),
];

const HEARS: &[Heard] = &[
    hears(
        "core:auth:success",
        "{ userId: Id, role: string | null, rooms: string[], expiresAt: Time | null }",
        "The token counts.",
    ),
    hears("core:auth:error", "{ code: string, message: string }", "It does not."),
    hears(
        "core:error",
        "{ message: string, code: string, event: string | null, denied?: string[] }",
        "What was refused, where no ack was asked for.",
    ),
    hears("message:new", "{ message: unknown, patientId: Id }", "A message to or of a patient."),
    hears("appointment:new", APPOINTMENT, "An appointment was made."),
    hears("appointment:update", APPOINTMENT, "It was changed."),
    hears("appointment:cancelled", APPOINTMENT, "It was cancelled."),
    hears("treatment:update", "{ treatment: unknown, patientId: Id }", "A treatment was changed."),
];
