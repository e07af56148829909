//! Notifications: `notification:new` on all of the user's devices, kept until read; `notification:read`,
//! `notification:getUnreadCount`, `notification:list`. What they mean stands in [`crate::notifying`].

use domain::{Identity, Rejection};

use super::{Telehealth, refuse, rooms};
use crate::{Actions, Inbound, notifying};

impl Telehealth {
    /// How clients hear of a notification.
    pub(crate) const NOTIFICATION: &'static str = "notification:new";

    /// Events whose names begin with `notification:`.
    pub(super) fn notification_event(
        &self,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        notifying::asked(inbound, rooms::personal(&identity.user), refuse)
    }
}
