//! The contract of `clinic` for machines; docs/clinic.md is the one for people.

use crate::contract::{Contract, ERROR, FAILURE, Heard, Said, asks, calls, hears};

pub static CONTRACT: Contract = Contract {
    title: "clinic",
    about: "Events of a laboratory's back office.",
    path: "/socket.io",
    namespace: "/events",
    types: &[
        (
            "CatalogUpdate",
            "{ type: \"exam\" | \"price\" | \"category\" | \"package\" | \"location\", action: \"created\" | \"updated\" | \"deleted\", entityId: Id, entityName?: string, timestamp: Time, seq?: integer }",
        ),
        (
            "AdminEvent",
            "{ eventType: string, entityType: string, entityId: Id | null, action: string, userId: Id, data?: unknown, timestamp: Time, seq?: integer }",
        ),
        ("Entity", "{ entity: string, entityId?: Id }"),
    ],
    failure: FAILURE,
    says: SAYS,
    hears: HEARS,
};

const SYNCED: &str =
    "{ success: true, seq: integer, complete: boolean, updates: CatalogUpdate[], hasMore: boolean }";

const SAYS: &[Said] = &[
    calls("ping", "{ timestamp: Time, userId: Id }", "Is anybody there?"),
    asks(
        "subscribe",
        "Entity",
        "{ success: true, entity: string, entityId?: Id }",
        "Adds the events about a kind or an instance.",
    ),
    asks("unsubscribe", "Entity", "{ success: true, entity: string, entityId?: Id }", "The reverse."),
    asks(
        "authenticate",
        "{ token: string }",
        "{ success: true, userId: Id, role: string | null, expiresAt?: Time }",
        "Shows a further token of the same user.",
    ),
    asks(
        "admin:events",
        "{ limit?: integer, before?: integer }",
        "{ success: true, events: AdminEvent[], hasMore: boolean }",
        "Administrators: a page of the audit feed, oldest first.",
    ),
    asks("catalog:sync", "{ since?: integer }", SYNCED, "What has changed in the catalogue."),
];

const HEARS: &[Heard] = &[
    hears("connected", "{ message: string, userId: Id, role: string | null }", "The token counts."),
    hears("error", ERROR, "What was refused, where no ack was asked for."),
    hears("pong", "{ timestamp: Time, userId: Id }", "The answer to ping."),
    hears("subscribed", "Entity", "What was added."),
    hears("unsubscribed", "Entity", "What was taken away."),
    hears(
        "authenticated",
        "{ userId: Id, role: string | null, expiresAt?: Time }",
        "The further token counts.",
    ),
    hears("admin:events", "{ events: AdminEvent[], hasMore: boolean }", "A page of the audit feed."),
    hears(
        "catalog:synced",
        "{ seq: integer, complete: boolean, updates: CatalogUpdate[], hasMore: boolean }",
        "What has changed in the catalogue.",
    ),
    hears("catalog:seq", "{ seq: integer }", "The number of the change told before."),
    hears("catalog:update", "CatalogUpdate", "A change of the catalogue."),
    hears(
        "user:update",
        "{ type: string, action: string, changes?: unknown, timestamp: Time }",
        "A change of the user.",
    ),
    hears("admin:event", "AdminEvent", "What an administrator did."),
    hears(
        "appointment:update",
        "{ appointmentId: Id, patientId: Id, action: \"created\" | \"updated\" | \"cancelled\" | \"confirmed\", appointment?: unknown, timestamp: Time }",
        "A change of an appointment.",
    ),
    hears(
        "result:update",
        "{ resultId: Id, patientId: Id, examName: string, status: \"pending\" | \"ready\" | \"delivered\", pdf?: Binary, timestamp: Time }",
        "A change of a result.",
    ),
    hears(
        "system:message",
        "{ type: \"info\" | \"warning\" | \"error\" | \"success\", message: string, targetRole?: string, timestamp: Time }",
        "A word to everyone, or to a role.",
    ),
];
