//! One core's routing state: which sockets are in which rooms, who receives a broadcast, and its frames encoded once.
//!
//! Pure: the caller writes. Start at [`Hub::deliver`]; the bytes are made in [`Frames::prepare`].

mod broadcast;
pub mod deflate;
mod frames;
pub mod plain;
mod receipt;
mod rooms;

pub use broadcast::{Broadcast, Order, Traced};
pub use frames::{Frames, ws_frame_into};
pub use receipt::Receipt;
pub use rooms::{Delivery, Hub, JoinOutcome, RoomKey, SocketIx};
