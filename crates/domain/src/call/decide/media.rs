//! What participants show, share and control. Said only by who is in a live call with this device. What is only shown (streams,
//! mutes, qualities) is taken as it comes, in any order; what gives power (shares, control) is checked.

use super::{Actor, Draft, Event, Limit, Refusal, UserId};
use crate::call::{Control, MediaAct, MediaChange};

impl Draft<'_> {
    pub(super) fn media(&mut self, actor: &Actor, act: &MediaAct) -> Result<(), Refusal> {
        self.must_be_in(actor)?;
        self.must_be_live()?;
        let what = self.allowed(&actor.who.user, act)?;
        let act = MediaAct { what, payload: act.payload.clone() };
        self.tell(Event::Media { user: actor.who.user.clone(), device: actor.device.clone(), act });
        self.drop_old_annotations();
        Ok(())
    }

    /// Before somebody leaves a call that goes on: its screen, and control over others'. Its streams go with it, its
    /// unanswered requests without a word.
    pub(super) fn end_media_of(&mut self, user: &UserId) {
        if self.call.media.is_shared_by(user) {
            self.tell(Event::ShareEnded { user: user.clone() });
        }
        let controls = self.call.media.controls.iter();
        let granted = controls.filter(|control| control.granted && control.requester == *user);
        let sharers: Vec<UserId> = granted.map(|control| control.sharer.clone()).collect();
        for sharer in sharers {
            self.tell(Event::ControlEnded { sharer, controller: user.clone() });
        }
    }

    /// The change as it is told: with whom it concerns filled in where the client left it out.
    fn allowed(&self, user: &UserId, act: &MediaAct) -> Result<MediaChange, Refusal> {
        match &act.what {
            MediaChange::ShareStart { .. } => self.may_share(user)?,
            MediaChange::ShareStop | MediaChange::ShareQuality { .. } => self.must_share(user)?,
            MediaChange::ControlRequest { sharer } => {
                let sharer = self.sharer_asked(user, sharer.as_ref())?;
                return Ok(MediaChange::ControlRequest { sharer: Some(sharer) });
            }
            MediaChange::ControlRespond { requester, .. } => self.may_respond(user, requester)?,
            MediaChange::ControlRevoke { requester } => {
                let requester = self.revoked(user, requester.as_ref())?;
                return Ok(MediaChange::ControlRevoke { requester });
            }
            MediaChange::Annotate => self.fits(&act.payload)?,
            MediaChange::StreamStart { .. }
            | MediaChange::StreamStop
            | MediaChange::Mute(_)
            | MediaChange::StreamQuality { .. }
            | MediaChange::ClearAnnotations => {}
        }
        Ok(act.what.clone())
    }

    /// One shares at a time, unless the application says otherwise. Who shares already may start anew.
    fn may_share(&self, user: &UserId) -> Result<(), Refusal> {
        let others = self.call.media.shares.iter().any(|share| share.user != *user);
        if others && !self.settings.many_sharers { Err(Refusal::AlreadySharing) } else { Ok(()) }
    }

    fn must_share(&self, user: &UserId) -> Result<(), Refusal> {
        if self.call.media.is_shared_by(user) { Ok(()) } else { Err(Refusal::NotSharing) }
    }

    /// Whose screen is meant: the named one's; else that of who began to share first besides the actor.
    fn sharer_asked(&self, user: &UserId, named: Option<&UserId>) -> Result<UserId, Refusal> {
        if named == Some(user) {
            return Err(Refusal::Oneself);
        }
        if let Some(named) = named {
            if !self.leg(named).is_in() {
                return Err(Refusal::NoSuchParticipant(named.as_str().into()));
            }
            return self.must_share(named).map(|()| named.clone());
        }
        let mut sharers = self.call.media.shares.iter().map(|share| &share.user);
        let other = sharers.find(|sharer| *sharer != user).cloned();
        let own = self.call.media.is_shared_by(user);
        other.ok_or(if own { Refusal::Oneself } else { Refusal::NotSharing })
    }

    /// Only to who has asked; a control that was granted may be refused later.
    fn may_respond(&self, user: &UserId, requester: &UserId) -> Result<(), Refusal> {
        self.must_share(user)?;
        let asked = self.has_control(|it| it.sharer == *user && it.requester == *requester);
        if asked { Ok(()) } else { Err(Refusal::NotRequested) }
    }

    /// Whose control ends: the named one's over the actor's screen, or all over it (`None`); the actor's own over others' screens,
    /// where it names itself, or names nobody and shares nothing that is asked for. Requests without an answer end likewise.
    fn revoked(&self, user: &UserId, named: Option<&UserId>) -> Result<Option<UserId>, Refusal> {
        let own = self.has_control(|it| it.requester == *user);
        let over_own_screen =
            self.has_control(|it| it.sharer == *user && named.is_none_or(|named| it.requester == *named));
        match named {
            _ if over_own_screen => Ok(named.cloned()),
            Some(named) if named != user => Err(Refusal::NotGranted),
            _ if own => Ok(Some(user.clone())),
            _ => Err(Refusal::NotGranted),
        }
    }

    fn has_control(&self, matches: impl Fn(&Control) -> bool) -> bool {
        self.call.media.controls.iter().any(matches)
    }

    fn fits(&self, annotation: &str) -> Result<(), Refusal> {
        let max = self.settings.annotation_bytes;
        if annotation.len() <= max {
            return Ok(());
        }
        Err(Refusal::OverLimit { limit: Limit::AnnotationBytes, max: max as u64 })
    }

    /// The bounds are settings, so what they take away is an event of its own.
    fn drop_old_annotations(&mut self) {
        let kept = &self.call.media.annotations;
        let newest_first = kept.iter().rev().take(self.settings.annotations);
        let mut room = self.settings.annotations_bytes;
        let fitting =
            newest_first.take_while(|annotation| match room.checked_sub(annotation.payload.len()) {
                Some(rest) => {
                    room = rest;
                    true
                }
                None => false,
            });
        let oldest = kept.len() - fitting.count();
        if oldest > 0 {
            self.tell(Event::AnnotationsDropped { oldest });
        }
    }
}
