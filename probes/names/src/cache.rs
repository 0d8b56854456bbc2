//! What was found for a container or a pod, and when to look again for what was not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::found::Found;

/// How many containers and pods are remembered: with names of the longest kind some 4 MiB.
pub(crate) const CAPACITY: usize = 4096;

/// The first wait: a runtime writes its files about when it starts the first process.
const SOON: Duration = Duration::from_secs(1);

/// Waits double up to this one.
const LATE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<String, Entry>,
    /// Counts uses, so that what was used longest ago can be told.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    /// When to look again, and how long this wait is; none once everything is known.
    again: Option<(Instant, Duration)>,
    used: u64,
}

impl Cache {
    /// What is known, and whether it is time to look for more.
    pub(crate) fn get(&mut self, key: &str, now: Instant) -> (Found, bool) {
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(key) else { return (Found::default(), true) };
        entry.used = self.uses;
        (entry.found.clone(), entry.again.is_some_and(|(at, _)| now >= at))
    }

    /// Remembers what a look found.
    pub(crate) fn put(&mut self, key: String, found: Found, is_complete: bool, now: Instant) {
        let waited = self.entries.get(&key).and_then(|entry| entry.again).map(|(_, wait)| wait);
        if waited.is_none() && self.entries.len() >= CAPACITY {
            self.forget_a_quarter();
        }
        let wait = waited.map_or(SOON, |wait| LATE.min(wait * 2));
        let again = (!is_complete).then(|| (now + wait, wait));
        self.entries.insert(key, Entry { found, again, used: self.uses });
    }

    /// A quarter at once, so that a walk over all is rare.
    fn forget_a_quarter(&mut self) {
        let mut used: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        let (_, last, _) = used.select_nth_unstable(CAPACITY / 4);
        let last = *last;
        self.entries.retain(|_, entry| entry.used > last);
    }
}

/// How often files are looked at: somebody may make control groups faster than we should open files.
#[derive(Debug)]
pub(crate) struct Budget {
    looks: u32,
    /// From when on the looks that come back are counted.
    since: Option<Instant>,
}

/// As many containers as a machine may have at the start.
const AT_ONCE: u32 = 1024;

/// Looks that come back every second.
const A_SECOND: u32 = 64;

impl Budget {
    pub(crate) fn new() -> Self {
        Self { looks: AT_ONCE, since: None }
    }

    /// Whether one more look is allowed.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            let back = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(A_SECOND);
            self.looks = self.looks.saturating_add(back).min(AT_ONCE);
            self.since = Some(now);
        }
        let is_left = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_looked_for_again_and_ever_less_often() {
        let (mut cache, mut now) = (Cache::default(), Instant::now());
        assert!(cache.get("a", now).1);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            cache.put("a".to_owned(), Found::default(), false, now);
            assert!(!cache.get("a", now + Duration::from_millis(wait * 1000 - 1)).1);
            now += Duration::from_secs(wait);
            assert!(cache.get("a", now).1, "after {wait} s");
        }
        cache.put("a".to_owned(), Found::default(), true, now);
        assert!(!cache.get("a", now + Duration::from_secs(1_000_000)).1);
    }

    #[test]
    fn it_does_not_grow_and_keeps_what_is_used() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..10 * CAPACITY {
            cache.get("used", now);
            let key = if number == 0 { "used".to_owned() } else { number.to_string() };
            cache.get(&key, now);
            cache.put(key, Found::default(), true, now);
            assert!(cache.entries.len() <= CAPACITY);
        }
        assert!(cache.entries.contains_key("used") && cache.entries.len() > CAPACITY / 2);
    }

    #[test]
    fn looks_come_back_with_time() {
        let (mut budget, now) = (Budget::new(), Instant::now());
        let taken = |budget: &mut Budget, now| (0..10_000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, now), 1024);
        assert_eq!(taken(&mut budget, now + Duration::from_millis(999)), 0);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(2)), 128);
        assert_eq!(taken(&mut budget, now + Duration::from_secs(1_000_000)), 1024);
        assert_eq!(taken(&mut budget, now), 0, "a clock that stands still gives none");
    }
}
