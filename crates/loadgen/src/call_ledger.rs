//! The accounting of calls: what the two sides of each call saw, compared after the run with what they must see. Pure.
//!
//! A call that its caller has the ack of is told once to each side at each step; start at [`audit`].

use rustc_hash::FxHashMap;
use serde::Serialize;

/// What one side noted down of a call.
#[derive(Debug, Clone)]
pub struct Entry {
    pub call: String,
    pub what: What,
    pub at_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The ack came; `at_ns` is when the call was due.
    Initiated,
    /// `call:incoming` came; the answer went out at once.
    Incoming,
    /// `call:accepted` came.
    Accepted,
    /// `call:end` went out.
    HungUp,
    /// `call:ended` came.
    Ended,
}

/// Everything two users noted down.
#[derive(Debug, Default)]
pub struct Pair {
    pub caller: Vec<Entry>,
    pub callee: Vec<Entry>,
}

/// One count for each event that a call brings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub incoming: u64,
    pub accepted: u64,
    pub ended_at_caller: u64,
    pub ended_at_callee: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub calls: u64,
    pub told: Counts,
    pub lost: Counts,
    pub duplicated: Counts,
    /// Events of calls that the caller has no ack of.
    pub stray: u64,
}

/// When the steps of one call happened, if they did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Steps {
    pub due_ns: u64,
    pub incoming_ns: Option<u64>,
    pub accepted_ns: Option<u64>,
    pub hung_up_ns: Option<u64>,
    /// When the later of the two sides heard of it.
    pub ended_ns: Option<u64>,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.incoming + self.accepted + self.ended_at_caller + self.ended_at_callee
    }

    fn add(&mut self, other: &Counts, each: impl Fn(u64) -> u64) {
        self.incoming += each(other.incoming);
        self.accepted += each(other.accepted);
        self.ended_at_caller += each(other.ended_at_caller);
        self.ended_at_callee += each(other.ended_at_callee);
    }
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost.total() + self.duplicated.total() + self.stray == 0
    }
}

/// Adds a pair's calls to the verdict; `steps` gets those of each call.
pub fn audit(pair: &Pair, verdict: &mut Verdict, mut steps: impl FnMut(Steps)) {
    let mut calls: FxHashMap<&str, (Steps, Counts)> = FxHashMap::default();
    let initiated = pair.caller.iter().filter(|entry| entry.what == What::Initiated);
    for entry in initiated {
        calls.entry(&entry.call).or_default().0.due_ns = entry.at_ns;
    }
    let sides = [(&pair.caller, true), (&pair.callee, false)];
    for (entry, at_caller) in sides.iter().flat_map(|(log, side)| log.iter().map(|entry| (entry, *side))) {
        match calls.get_mut(entry.call.as_str()) {
            Some((steps, told)) => note(entry, at_caller, steps, told),
            None => verdict.stray += 1,
        }
    }
    for (call, told) in calls.values() {
        verdict.calls += 1;
        verdict.told.add(told, |count| count);
        verdict.lost.add(told, |count| u64::from(count == 0));
        verdict.duplicated.add(told, |count| count.saturating_sub(1));
        steps(*call);
    }
}

fn note(entry: &Entry, at_caller: bool, steps: &mut Steps, told: &mut Counts) {
    let at_ns = entry.at_ns;
    match entry.what {
        What::Initiated => {}
        What::HungUp => steps.hung_up_ns = Some(at_ns),
        What::Incoming => {
            told.incoming += 1;
            steps.incoming_ns.get_or_insert(at_ns);
        }
        What::Accepted => {
            told.accepted += 1;
            steps.accepted_ns.get_or_insert(at_ns);
        }
        What::Ended => {
            let side = if at_caller { &mut told.ended_at_caller } else { &mut told.ended_at_callee };
            *side += 1;
            steps.ended_ns = steps.ended_ns.max(Some(at_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(&str, What)]) -> Vec<Entry> {
        let entry = |(at, &(call, what)): (usize, &(&str, What))| Entry {
            call: call.to_owned(),
            what,
            at_ns: at as u64 * 10,
        };
        entries.iter().enumerate().map(entry).collect()
    }

    fn whole(call: &str) -> (Vec<Entry>, Vec<Entry>) {
        let caller = [What::Initiated, What::Accepted, What::HungUp, What::Ended].map(|what| (call, what));
        (log(&caller), log(&[(call, What::Incoming), (call, What::Ended)]))
    }

    fn verdict(caller: Vec<Entry>, callee: Vec<Entry>) -> Verdict {
        let mut verdict = Verdict::default();
        audit(&Pair { caller, callee }, &mut verdict, |_| {});
        verdict
    }

    #[test]
    fn a_call_told_once_at_each_step_is_clean_and_timed() {
        let (caller, callee) = whole("a");
        let (mut verdict, mut times) = (Verdict::default(), Vec::new());
        audit(&Pair { caller, callee }, &mut verdict, |steps| times.push(steps));
        assert!(verdict.is_clean() && verdict.calls == 1, "{verdict:?}");
        assert_eq!((times[0].incoming_ns, times[0].accepted_ns), (Some(0), Some(10)));
        assert_eq!((times[0].hung_up_ns, times[0].ended_ns), (Some(20), Some(30)));
    }

    #[test]
    fn each_missing_event_is_lost_and_each_second_one_doubled() {
        for at in 1..4 {
            let (mut caller, callee) = whole("a");
            caller.remove(at);
            // What the caller did itself is no event.
            assert_eq!(verdict(caller, callee).lost.total(), u64::from(at != 2), "{at}");
        }
        for at in 0..2 {
            let (caller, mut callee) = whole("a");
            callee.push(callee[at].clone());
            assert_eq!(verdict(caller.clone(), callee.clone()).duplicated.total(), 1);
            callee.drain(..);
            assert_eq!(verdict(caller, callee).lost.total(), 2);
        }
    }

    #[test]
    fn events_of_calls_that_were_not_acked_are_stray() {
        let (caller, mut callee) = whole("a");
        callee.extend(whole("b").1);
        let verdict = verdict(caller, callee);
        assert_eq!((verdict.stray, verdict.calls, verdict.lost.total()), (2, 1, 0));
    }
}
