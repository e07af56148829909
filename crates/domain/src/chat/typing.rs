//! One socket about to write in one room: what the others are shown. A start is shown at most once per interval, a stop when the
//! writer stops, sends, leaves or says nothing more.

/// Times of typing, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypingTimes {
    /// Without another start it is over after so long.
    pub timeout_ms: u64,
    /// Between two starts that are shown.
    pub interval_ms: u64,
}

/// What the others are to be shown now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Start,
    Stop,
}

/// How far it is; times in milliseconds of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Until when the writer counts as typing; `None`: stopped.
    until: Option<u64>,
    /// The others see a start.
    shown: bool,
    /// The next start may be shown from here on.
    quiet_until: u64,
}

impl Typing {
    /// Somebody who has said nothing yet.
    pub fn new(now: u64) -> Self {
        Self { until: None, shown: false, quiet_until: now }
    }

    /// The writer says that it types.
    pub fn start(&mut self, times: &TypingTimes, now: u64) -> Option<Shown> {
        self.until = Some(now + times.timeout_ms);
        self.show_start(times, now)
    }

    /// The writer is done. A stop is shown to who sees a start, and to nobody else.
    pub fn stop(&mut self) -> Option<Shown> {
        self.until = None;
        std::mem::take(&mut self.shown).then_some(Shown::Stop)
    }

    /// Time has passed.
    pub fn tick(&mut self, times: &TypingTimes, now: u64) -> Option<Shown> {
        match self.until {
            Some(until) if until <= now => self.stop(),
            Some(_) if !self.shown => self.show_start(times, now),
            _ => None,
        }
    }

    /// When time changes something; `None`: never.
    pub fn due(&self) -> Option<u64> {
        match self.until {
            Some(until) if self.shown => Some(until),
            Some(until) => Some(until.min(self.quiet_until)),
            None => None,
        }
    }

    /// Whether nothing is left to be remembered.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_none() && self.quiet_until <= now
    }

    /// When a stopped one may be forgotten.
    pub fn quiet_until(&self) -> u64 {
        self.quiet_until
    }

    fn show_start(&mut self, times: &TypingTimes, now: u64) -> Option<Shown> {
        if now < self.quiet_until {
            return None;
        }
        self.quiet_until = now + times.interval_ms;
        self.shown = true;
        Some(Shown::Start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: TypingTimes = TypingTimes { timeout_ms: 3000, interval_ms: 1000 };

    #[test]
    fn a_start_is_shown_once_per_interval_and_ends_by_itself() {
        let mut typing = Typing::new(0);
        let shown: Vec<_> = [0, 300, 999, 1000].map(|now| typing.start(&TIMES, now)).into();
        assert_eq!(shown, [Some(Shown::Start), None, None, Some(Shown::Start)]);
        assert_eq!(typing.due(), Some(4000));
        assert_eq!(typing.tick(&TIMES, 3999), None);
        assert_eq!(typing.tick(&TIMES, 4000), Some(Shown::Stop));
        assert_eq!((typing.due(), typing.is_over(4000), typing.stop()), (None, true, None));
    }

    #[test]
    fn who_starts_again_too_soon_is_shown_when_the_interval_is_over() {
        let mut typing = Typing::new(0);
        typing.start(&TIMES, 0);
        assert_eq!(typing.stop(), Some(Shown::Stop));
        assert!(!typing.is_over(10), "the interval is remembered");
        assert_eq!(typing.start(&TIMES, 10), None);
        assert_eq!((typing.due(), typing.tick(&TIMES, 1000)), (Some(1000), Some(Shown::Start)));
        assert_eq!(typing.due(), Some(3010));
        assert_eq!(typing.stop(), Some(Shown::Stop));
    }

    #[test]
    fn nobody_is_told_of_the_end_of_what_was_not_shown() {
        let mut typing = Typing::new(0);
        assert_eq!(typing.stop(), None);
        typing.start(&TIMES, 0);
        typing.stop();
        assert_eq!(typing.start(&TIMES, 5), None);
        assert_eq!(typing.stop(), None);
    }

    #[test]
    fn however_clients_behave_starts_are_rare_and_a_stop_follows_each() {
        for seed in 0u64..200 {
            let (mut x, mut now, mut typing) = (seed * 2 + 1, 0, Typing::new(0));
            let (mut last_start, mut open) = (None::<u64>, false);
            for _ in 0..200 {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                now += x >> 55;
                let shown = match x >> 62 {
                    0 | 1 => typing.start(&TIMES, now),
                    2 => typing.stop(),
                    _ => typing.tick(&TIMES, now),
                };
                match shown {
                    Some(Shown::Start) => {
                        assert!(last_start.is_none_or(|at| now - at >= TIMES.interval_ms));
                        (last_start, open) = (Some(now), true);
                    }
                    Some(Shown::Stop) => assert!(std::mem::take(&mut open)),
                    None => {}
                }
                assert!(!open || typing.due().is_some(), "a start that is shown ends");
            }
        }
    }
}
