//! Who of many has a row of its own: those with most activity.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::identity::ByIdentity;

/// What a call adds to somebody's activity, of which an eighth goes at each tick: half of it in five.
const CALL: u64 = 16;
const EIGHTH: u32 = 3;

/// Whoever has a place keeps it for at least so many ticks, and against everybody who is not more than so many times as
/// active: two of nearly the same activity do not take turns.
const STAY: u64 = 10;
const TIMES: u64 = 2;

/// Ticks that a place is kept for one who has won it and not come back.
const KEPT: u64 = 3;

/// The places of a kind.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    tick: u64,
    holders: HashMap<u64, Holder, ByIdentity>,
    /// Those without a place that have done something of late, and their activity.
    outsiders: HashMap<u64, u64, ByIdentity>,
    /// Those who have won the place of another one, and when.
    winners: HashMap<u64, u64, ByIdentity>,
    is_crowded: bool,
}

#[derive(Debug)]
struct Holder {
    activity: u64,
    since: u64,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            tick: 0,
            holders: HashMap::default(),
            outsiders: HashMap::default(),
            winners: HashMap::default(),
            is_crowded: false,
        }
    }

    /// Somebody has made so many calls. Whether there is a place for it: it has it from now on.
    pub(super) fn take(&mut self, who: u64, calls: u64) -> bool {
        let by = calls.saturating_mul(CALL);
        if let Some(holder) = self.holders.get_mut(&who) {
            holder.activity = holder.activity.saturating_add(by);
            return true;
        }
        if self.winners.remove(&who).is_some() || self.holders.len() + self.winners.len() < self.limit {
            let before = self.outsiders.remove(&who).unwrap_or_default();
            self.holders.insert(who, Holder { activity: before.saturating_add(by), since: self.tick });
            return true;
        }
        self.is_crowded = true;
        // Of very many that do little it does not matter who they are.
        if self.outsiders.len() < 2 * self.limit || self.outsiders.contains_key(&who) {
            let activity = self.outsiders.entry(who).or_default();
            *activity = activity.saturating_add(by);
        }
        false
    }

    /// Whether half of the places are taken.
    pub(super) fn are_scarce(&self) -> bool {
        2 * self.holders.len() >= self.limit
    }

    /// It is over: its place is free, and it wants none.
    pub(super) fn leave(&mut self, who: u64) {
        self.holders.remove(&who);
        self.outsiders.remove(&who);
        self.winners.remove(&who);
    }

    /// Whether somebody has found no place since this was asked last.
    pub(super) fn was_crowded(&mut self) -> bool {
        std::mem::take(&mut self.is_crowded)
    }

    /// A tick begins. Gives those who lose their places to others who are far more active.
    pub(super) fn losers(&mut self) -> Vec<u64> {
        self.tick += 1;
        let Self { tick, holders, outsiders, winners, limit, .. } = self;
        for holder in holders.values_mut() {
            holder.activity = faded(holder.activity);
        }
        outsiders.retain(|_, activity| {
            *activity = faded(*activity);
            *activity > 0
        });
        winners.retain(|_, since| *since + KEPT > *tick);
        if outsiders.is_empty() {
            return Vec::new();
        }
        let free = limit.saturating_sub(holders.len() + winners.len());
        let mut best: Vec<(u64, u64)> = outsiders.iter().map(|(who, activity)| (*who, *activity)).collect();
        best.sort_unstable_by_key(|(who, activity)| (Reverse(*activity), *who));
        let may_go = holders.iter().filter(|(_, holder)| holder.since + STAY <= *tick);
        let mut worst: Vec<(u64, u64)> = may_go.map(|(who, holder)| (*who, holder.activity)).collect();
        worst.sort_unstable_by_key(|(who, activity)| (*activity, *who));
        let pairs = best.into_iter().skip(free).zip(worst);
        let swaps = pairs.take_while(|((_, best), (_, worst))| *best > worst.saturating_mul(TIMES));
        let swaps: Vec<(u64, u64)> = swaps.map(|((winner, _), (loser, _))| (winner, loser)).collect();
        for (winner, loser) in &swaps {
            winners.insert(*winner, *tick);
            // It may win a place again.
            if let Some(holder) = holders.remove(loser) {
                outsiders.insert(*loser, holder.activity);
            }
        }
        swaps.into_iter().map(|(_, loser)| loser).collect()
    }
}

fn faded(activity: u64) -> u64 {
    activity - (activity >> EIGHTH).max(activity.min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has a place after these ticks, where everybody makes so many calls at each.
    fn after(places: &mut Places, ticks: usize, calls: &[(u64, u64)]) -> (Vec<u64>, usize) {
        let mut swaps = 0;
        let mut with = Vec::new();
        for _ in 0..ticks {
            swaps += places.losers().len();
            with = calls.iter().filter(|(who, calls)| places.take(*who, *calls)).map(|(who, _)| *who).collect();
        }
        (with, swaps)
    }

    #[test]
    fn those_with_most_activity_have_the_places() {
        let mut places = Places::new(2);
        assert_eq!(after(&mut places, 3, &[(1, 10), (2, 1)]), (vec![1, 2], 0));
        assert_eq!(after(&mut places, 2, &[(1, 10), (2, 1), (3, 9)]), (vec![1, 2], 0), "who has one stays for a while");
        assert_eq!(after(&mut places, 20, &[(1, 10), (2, 1), (3, 9)]), (vec![1, 3], 1));
        assert_eq!(after(&mut places, 40, &[(3, 9), (2, 1)]), (vec![3, 2], 1), "who does nothing any more makes room");
    }

    #[test]
    fn two_that_do_nearly_the_same_do_not_take_turns() {
        let mut places = Places::new(1);
        after(&mut places, 20, &[(1, 10)]);
        assert_eq!(after(&mut places, 1000, &[(1, 10), (2, 15)]), (vec![1], 0));
        assert_eq!(after(&mut places, 100, &[(1, 10), (2, 30)]), (vec![2], 1));
    }

    #[test]
    fn a_place_that_was_won_is_kept_for_the_winner_and_not_for_ever() {
        let mut places = Places::new(1);
        after(&mut places, 20, &[(1, 1)]);
        after(&mut places, 1, &[(1, 1), (2, 100)]);
        assert_eq!(places.losers(), [1]);
        assert!(!places.take(1, 5) && !places.take(3, 5), "it is the winner's");
        places.losers();
        places.losers();
        places.losers();
        assert!(places.take(3, 5), "who has not come");
    }

    #[test]
    fn of_very_many_that_come_once_few_are_remembered_and_nobody_loses_a_place_to_them() {
        let mut places = Places::new(4);
        let held: Vec<(u64, u64)> = (0..4).map(|who| (who, 5)).collect();
        for tick in 0..100 {
            let passing = (0..100).map(|n| (1000 + tick * 100 + n, 1));
            let calls: Vec<(u64, u64)> = held.iter().copied().chain(passing).collect();
            assert_eq!(after(&mut places, 1, &calls), (vec![0, 1, 2, 3], 0));
            assert!(places.outsiders.len() <= 8 && places.was_crowded());
        }
        after(&mut places, 40, &held);
        assert!(
            places.outsiders.is_empty()
                && !{
                    places.was_crowded();
                    places.was_crowded()
                }
        );
    }

    #[test]
    fn activity_fades_to_nothing() {
        let mut activity = u64::MAX;
        let ticks = (0..).take_while(|_| {
            activity = faded(activity);
            activity > 0
        });
        assert!(ticks.count() < 400);
        assert_eq!(faded(0), 0);
    }
}
