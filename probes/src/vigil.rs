//! Proof while it counts: a counter that stands still is either idle, or its hooks have stopped firing.
//!
//! Once it has stood still for a minute, and at most once an hour, the agent does the operation itself, and the next
//! look but one second says whether the hooks saw it. Time is given, so an hour is a loop in a test.

use std::time::Duration;

use crate::counter::OPERATIONS;

/// How long a counter stands still before it is asked.
pub(crate) const STILL: Duration = Duration::from_mins(1);

/// How seldom one counter is asked.
pub(crate) const SELDOM: Duration = Duration::from_hours(1);

/// How long an operation may take to be seen: a release is seen one RCU grace period later.
const PATIENCE: Duration = Duration::from_secs(1);

/// As many hooks of a counter as may have to prove themselves.
pub(crate) const HOOKS: usize = 5;

/// What the records of a counter's hooks hold, and what the kernel says to have left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// By hook that proves itself; 0 where there is none.
    pub(crate) calls: [u64; HOOKS],
    pub(crate) missed: u64,
}

/// What is to be done about a counter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Nothing,
    /// Do its operations, and say so with [`Vigil::asked`].
    Ask,
    /// Look whether they were seen, with [`Vigil::judge`].
    Judge,
    /// It had been found silent and moves again.
    Back,
}

/// The watch over one counter.
#[derive(Debug)]
pub(crate) struct Vigil {
    calls: u64,
    /// When it moved last, or was taken to.
    moved: Duration,
    /// When its total grew last.
    grew: Option<Duration>,
    last_asked: Option<Duration>,
    under_way: Option<Seen>,
    silent: bool,
    /// Whether its hooks have just been attached again.
    again: bool,
}

impl Vigil {
    pub(crate) const fn new(now: Duration) -> Self {
        Self { calls: 0, moved: now, grew: None, last_asked: None, under_way: None, silent: false, again: false }
    }

    /// At each tick, with the counter's total.
    pub(crate) fn look(&mut self, now: Duration, calls: u64) -> Duty {
        let moved = std::mem::replace(&mut self.calls, calls) != calls;
        if moved {
            self.grew = Some(now);
        }
        if let (Some(_), Some(asked)) = (self.under_way, self.last_asked) {
            return if now.saturating_sub(asked) >= PATIENCE { Duty::Judge } else { Duty::Nothing };
        }
        if moved {
            self.moved = now;
            return if std::mem::take(&mut self.silent) { Duty::Back } else { Duty::Nothing };
        }
        let still = now.saturating_sub(self.moved) >= STILL;
        let seldom = self.last_asked.is_none_or(|asked| now.saturating_sub(asked) >= SELDOM);
        if still && seldom { Duty::Ask } else { Duty::Nothing }
    }

    /// The operations are done; `before` is what was seen before them. Nothing where they are impossible here.
    pub(crate) const fn asked(&mut self, now: Duration, before: Option<Seen>) {
        self.last_asked = Some(now);
        self.under_way = before;
    }

    /// Whether the hooks saw them: `demand` says how many operations each must have seen at least. What the kernel says
    /// to have left out meanwhile does not count as silence.
    pub(crate) fn judge(&mut self, now: Duration, after: Seen, demand: [u64; HOOKS]) -> bool {
        self.moved = now;
        let Some(before) = self.under_way.take() else { return true };
        let left_out = after.missed.wrapping_sub(before.missed);
        let calls = before.calls.iter().zip(after.calls).map(|(before, after)| after.wrapping_sub(*before));
        let fires = calls.zip(demand).all(|(seen, demand)| seen.saturating_add(left_out) >= demand);
        self.silent = !fires;
        self.again &= !fires;
        fires
    }

    /// Whether its total has grown lately: its hooks fire.
    pub(crate) fn moves(&self, now: Duration) -> bool {
        self.grew.is_some_and(|grew| now.saturating_sub(grew) < STILL)
    }

    /// Its hooks are another counter's too, and were attached again for that one: it is asked at the next look.
    pub(crate) const fn attached_with_another(&mut self, now: Duration) {
        self.under_way = None;
        self.silent = true;
        self.again = true;
        self.last_asked = None;
        self.moved = now.saturating_sub(STILL);
    }

    /// It was found silent in another way.
    pub(crate) const fn found_silent(&mut self) {
        self.silent = true;
    }

    /// Whether to attach its hooks again: every second time, so that it is tried once an hour and not at every tick. It is
    /// asked at the next look then, however soon that is.
    pub(crate) const fn attach_again(&mut self, now: Duration) -> bool {
        self.again = !self.again;
        if self.again {
            self.last_asked = None;
            self.moved = now.saturating_sub(STILL);
        }
        self.again
    }
}

/// What a hook must see that fires for us alone, and one that a sandbox may hide some of.
pub(crate) const fn demand(hidden_some: bool) -> u64 {
    if hidden_some { 1 } else { OPERATIONS }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: [u64; HOOKS] = [OPERATIONS, OPERATIONS, 0, 0, 0];

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(first: u64, second: u64, missed: u64) -> Seen {
        Seen { calls: [first, second, 0, 0, 0], missed }
    }

    /// Looks once a second with these totals, and says at which second what was to be done.
    fn duties(vigil: &mut Vigil, from: u64, totals: impl IntoIterator<Item = u64>) -> Vec<(u64, Duty)> {
        let looks = totals.into_iter().zip(from..).map(|(calls, second)| (second, vigil.look(seconds(second), calls)));
        looks.filter(|(_, duty)| *duty != Duty::Nothing).collect()
    }

    #[test]
    fn a_counter_that_stands_still_is_asked_after_a_minute_and_then_once_an_hour() {
        let mut vigil = Vigil::new(seconds(0));
        assert_eq!(duties(&mut vigil, 1, 1..=200), [], "it moves");
        assert_eq!(duties(&mut vigil, 201, [200; 60]), [(260, Duty::Ask)]);
        vigil.asked(seconds(260), Some(seen(200, 0, 0)));
        assert_eq!(vigil.look(Duration::from_millis(260_500), 203), Duty::Nothing, "they may come late");
        assert_eq!(vigil.look(seconds(261), 206), Duty::Judge);
        assert!(vigil.judge(seconds(261), seen(203, 3, 0), DEMAND));
        let asked = duties(&mut vigil, 262, std::iter::repeat_n(206, 3600));
        assert_eq!(asked.first(), Some(&(260 + 3600, Duty::Ask)));
    }

    #[test]
    fn fewer_than_its_own_operations_is_silence_unless_they_were_left_out() {
        for (after, fires) in [
            (seen(3, 3, 0), true),
            (seen(4, 3, 0), true),
            (seen(0, 0, 0), false),
            (seen(3, 2, 0), false),
            (seen(3, 0, 0), false),
            (seen(2, 2, 1), true),
            (seen(1, 3, 1), false),
        ] {
            let mut vigil = Vigil::new(seconds(0));
            vigil.asked(seconds(60), Some(seen(0, 0, 0)));
            assert_eq!(vigil.judge(seconds(61), after, DEMAND), fires, "{after:?}");
        }
        assert_eq!(demand(true), 1);
    }

    #[test]
    fn who_was_silent_and_moves_is_back_once() {
        let mut vigil = Vigil::new(seconds(0));
        vigil.asked(seconds(60), Some(seen(0, 0, 0)));
        assert!(!vigil.judge(seconds(61), seen(0, 0, 0), DEMAND));
        assert_eq!(duties(&mut vigil, 62, [0, 0, 7, 8]), [(64, Duty::Back)]);
        vigil.found_silent();
        assert_eq!(duties(&mut vigil, 66, [8, 9]), [(67, Duty::Back)]);
    }

    #[test]
    fn who_was_attached_again_is_asked_at_once() {
        let mut vigil = Vigil::new(seconds(0));
        vigil.asked(seconds(60), Some(seen(0, 0, 0)));
        assert!(!vigil.judge(seconds(61), seen(0, 0, 0), DEMAND));
        assert!(vigil.attach_again(seconds(61)));
        assert_eq!(vigil.look(seconds(62), 0), Duty::Ask);
        vigil.asked(seconds(62), Some(seen(0, 0, 0)));
        assert!(!vigil.judge(seconds(63), seen(0, 0, 0), DEMAND));
        assert!(!vigil.attach_again(seconds(63)), "in vain: an hour's pause");
        assert_eq!(duties(&mut vigil, 64, std::iter::repeat_n(0, 3598)).first(), None);
        assert_eq!(vigil.look(seconds(3662), 0), Duty::Ask);
    }

    #[test]
    fn who_was_attached_with_another_is_asked_at_once_and_not_attached_a_second_time() {
        let mut vigil = Vigil::new(seconds(0));
        assert!(!vigil.moves(seconds(1)), "nothing has been counted");
        assert_eq!(vigil.look(seconds(1), 5), Duty::Nothing);
        assert!(vigil.moves(seconds(60)) && !vigil.moves(seconds(61)));
        vigil.asked(seconds(61), Some(seen(5, 0, 0)));
        // Asked as well when the other one was judged.
        vigil.attached_with_another(seconds(62));
        assert_eq!(vigil.look(seconds(63), 5), Duty::Ask);
        vigil.asked(seconds(63), Some(seen(5, 0, 0)));
        assert!(!vigil.judge(seconds(64), seen(5, 0, 0), DEMAND));
        assert!(!vigil.moves(seconds(64)), "a verdict is no movement");
        assert!(!vigil.attach_again(seconds(64)), "in vain: an hour's pause");
    }

    #[test]
    fn a_verdict_that_could_not_be_had_is_due_again() {
        let mut vigil = Vigil::new(seconds(0));
        vigil.asked(seconds(60), Some(seen(0, 0, 0)));
        assert_eq!(duties(&mut vigil, 61, [0, 0]), [(61, Duty::Judge), (62, Duty::Judge)]);
        assert!(vigil.judge(seconds(63), seen(3, 3, 0), DEMAND));
    }

    #[test]
    fn an_impossible_operation_proves_nothing_and_is_tried_an_hour_later() {
        let mut vigil = Vigil::new(seconds(0));
        assert_eq!(duties(&mut vigil, 1, [0; 60]), [(60, Duty::Ask)]);
        vigil.asked(seconds(60), None);
        assert_eq!(duties(&mut vigil, 61, std::iter::repeat_n(0, 3599)), []);
        assert_eq!(vigil.look(seconds(3660), 0), Duty::Ask);
    }
}
