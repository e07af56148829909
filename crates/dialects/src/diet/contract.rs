//! The contract of `diet` for machines; docs/diet.md is the one for people.

use crate::contract::{Contract, ERROR, FAILURE, Heard, Said, asks, calls, hears};
use crate::notifying;

pub static CONTRACT: Contract = Contract {
    title: "diet",
    about: "Dietitian and client messaging.",
    path: "/api/socketio",
    namespace: "/",
    types: &[(
        "Notification",
        "{ id: Id, type?: string, message?: string, data?: unknown, timestamp?: Time, ... }",
    )],
    failure: FAILURE,
    says: SAYS,
    hears: HEARS,
};

const JOINED: &str = "{ success: true, userId: Id, room: string }";
const DIET: &str = "{ success: true, dietId: Id, room: string }";

const SAYS: &[Said] = &[
    asks("join", "Id", JOINED, "Enters the user's room, and says who one is where there are no tokens."),
    asks("join_diet", "Id", DIET, "Enters the room of a diet."),
    asks("leave_diet", "Id", DIET, "Leaves it."),
    calls("ping", "{ timestamp: Time }", "Is anybody there?"),
    notifying::READ,
    notifying::UNREAD_COUNT,
    notifying::LIST,
];

const HEARS: &[Heard] = &[
    hears("error", ERROR, "What was refused."),
    hears("joined", "{ userId: Id, room: string }", "The user's room is entered."),
    hears("joined_diet", "{ dietId: Id, room: string }", "The diet's room is entered."),
    hears("left_diet", "{ dietId: Id, room: string }", "It is left."),
    hears("pong", "{ timestamp: Time }", "The answer to ping."),
    hears(
        "new_message",
        "{ message: unknown, dietId: Id, clientId: Id }",
        "A message was created in a diet.",
    ),
    hears("new_notification", "Notification", "A notification; kept until it is read."),
    hears(
        "notification:read",
        "{ notificationId: Id, unreadCount: integer }",
        "Another device of one's own has read it.",
    ),
];
