//! What clients do: connect, move, choose, call each other, answer on several devices at once, and leave in the middle of it.

use cluster::coordination::Request;
use domain::UserId;
use domain::call::{
    Act, Actor, Call, CallId, Command, CommandId, Invite, Kind, MediaAct, MediaChange, Medium, Offer, Person,
    Subject,
};
use domain::presence::{ChoiceChange, Status};

use crate::sim::{Event, Sim};

pub fn person(user: &UserId) -> Person {
    Person { user: user.clone(), wire_id: user.as_str().into(), name: None, role: None }
}

impl Sim {
    pub fn client_acts(&mut self) {
        let gateways = self.gateways.iter().enumerate();
        let present: Vec<(usize, UserId, Box<str>)> = gateways
            .flat_map(|(n, it)| it.devices().map(move |(user, device)| (n, user.clone(), device.id.clone())))
            .collect();
        let Some((gateway, user, device)) = self.chance.pick(&present).cloned() else { return };
        match self.chance.below(100) {
            0..14 => self.device_moves(gateway, &user, device),
            14..22 => self.choose(gateway, user, device),
            22..26 => self.toggle_idle(gateway, &user, &device),
            26..50 => self.initiate(gateway, &user, &device),
            _ => {
                let acts = 1 + self.chance.below(2);
                (0..acts).for_each(|_| self.act_in_a_call());
            }
        }
    }

    fn device_moves(&mut self, gateway: usize, user: &UserId, device: Box<str>) {
        let life = self.gateways[gateway].life;
        if self.chance.percent(40) {
            // The session moves: the new node has it before the old one is rid of it.
            let other = self.chance.below(self.gateways.len() as u64) as usize;
            if other != gateway {
                self.add(other, user, device.clone());
                self.soon(300, Event::Gone { gateway, life, device });
            }
            return;
        }
        self.depart(gateway, life, device);
    }

    fn choose(&mut self, gateway: usize, user: UserId, device: Box<str>) {
        let status = [Status::Online, Status::Busy, Status::Away, Status::Offline];
        let status = self.chance.pick(&status).copied();
        let change = ChoiceChange { status, custom: None };
        let id = CommandId(self.any_id());
        let wire_id = user.as_str().into();
        self.ask(gateway, device, Request::Choose { id, user, wire_id, change });
    }

    fn initiate(&mut self, gateway: usize, user: &UserId, device: &str) {
        let others: Vec<UserId> = self.users.iter().filter(|it| *it != user).cloned().collect();
        let conference = self.chance.percent(30);
        let invited = if conference {
            others.iter().map(|other| Invite { who: person(other) }).collect()
        } else {
            self.chance.pick(&others).map(|other| vec![Invite { who: person(other) }]).unwrap_or_default()
        };
        let both = !conference && self.chance.percent(50);
        if both {
            self.call_back(&invited[0].who.user, user);
        }
        let kind = if conference { Kind::Conference } else { Kind::OneToOne };
        self.offer(gateway, user, device, kind, invited);
    }

    /// Both call each other.
    fn call_back(&mut self, user: &UserId, caller: &UserId) {
        let found = self.gateways.iter().enumerate().find_map(|(n, it)| {
            let (_, device) = it.devices().find(|(of, _)| *of == user)?;
            Some((n, device.id.clone()))
        });
        if let Some((gateway, device)) = found {
            let invited = vec![Invite { who: person(caller) }];
            self.offer(gateway, user, &device, Kind::OneToOne, invited);
        }
    }

    fn offer(&mut self, gateway: usize, user: &UserId, device: &str, kind: Kind, invited: Vec<Invite>) {
        let offer = Offer { kind, medium: Medium::Video, subject: Subject::default(), invited };
        let call = CallId::new(format!("c{}", self.any_id())).expect("short");
        self.command(gateway, user, device, call, Act::Initiate(offer));
    }

    /// A device of somebody with a seat does something; often several at once.
    fn act_in_a_call(&mut self) {
        let calls: Vec<Call> = self.store.calls().cloned().collect();
        let live: Vec<Call> = calls.iter().filter(|call| !call.status.is_over()).cloned().collect();
        let pool = if live.is_empty() || self.chance.percent(10) { &calls } else { &live };
        let Some(call) = self.chance.pick(pool).cloned() else { return };
        let gateways = self.gateways.iter().enumerate();
        let present: Vec<(usize, UserId, Box<str>)> = gateways
            .flat_map(|(n, it)| it.devices().map(move |(user, device)| (n, user.clone(), device.id.clone())))
            .filter(|(_, user, _)| call.seat(user).is_some())
            .collect();
        let at_once = 1 + self.chance.below(3);
        for _ in 0..at_once {
            let Some((gateway, user, device)) = self.chance.pick(&present).cloned() else { return };
            let rings = call.seat(&user).is_some_and(|seat| !seat.leg.is_in());
            let act = self.any_act(&user, rings);
            self.command(gateway, &user, &device, call.id.clone(), act);
        }
    }

    fn any_act(&mut self, user: &UserId, rings: bool) -> Act {
        let roll = self.chance.below(100);
        if rings {
            return match roll {
                0..70 => Act::Answer { glare: false },
                70..80 => Act::Decline { said: None },
                80..95 => Act::Join,
                _ => Act::Rejoin,
            };
        }
        match roll {
            0..25 => Act::Progress,
            25..45 => Act::Rejoin,
            45..55 => Act::End { said: None },
            55..65 => Act::Leave,
            65..70 => Act::Fail { said: None },
            70..75 => Act::Look,
            75..80 => Act::Join,
            _ => Act::Media(self.media(user)),
        }
    }

    fn media(&mut self, user: &UserId) -> MediaAct {
        let changes = [
            MediaChange::StreamStart { video: true, audio: true },
            MediaChange::StreamStop,
            MediaChange::ShareStart { audio: false, quality: "hd".into() },
            MediaChange::ShareStop,
            MediaChange::ControlRequest { sharer: None },
            MediaChange::ControlRespond { requester: user.clone(), granted: true },
            MediaChange::Annotate,
        ];
        let what = self.chance.pick(&changes).expect("there are some").clone();
        MediaAct { what, payload: "{}".into() }
    }

    fn command(&mut self, gateway: usize, user: &UserId, device: &str, call: CallId, act: Act) {
        let actor = Some(Actor { who: person(user), device: device.into() });
        let id = CommandId(self.any_id());
        self.ask(gateway, device.into(), Request::Call(Box::new(Command { id, call, actor, act })));
    }
}
