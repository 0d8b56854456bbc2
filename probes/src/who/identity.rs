//! Numbers by which rows and processes are known, that nobody can steer.
//!
//! A process chooses its name, and whoever makes a control group its path. With a hash that is the same everywhere two of
//! them could be made to have one number, and would be one row; this one has a key that is drawn anew each time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

/// The key of a kind's identities.
#[derive(Debug)]
pub(super) struct Key {
    state: RandomState,
    drawn: u64,
}

impl Default for Key {
    fn default() -> Self {
        let state = RandomState::new();
        let drawn = state.hash_one(());
        Self { state, drawn }
    }
}

impl Key {
    /// No other process has it, whenever it runs: a number is given away again after at least a tick of the scheduler.
    /// Nobody chooses when the kernel starts him, to the nanosecond: mixing as splitmix64 does is enough.
    pub(super) const fn process(&self, tgid: u32, started: u64) -> u64 {
        let mut mixed = self.drawn ^ started ^ (tgid as u64).rotate_right(20);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// What is called so: a process, where there are several of one name, or 0.
    pub(super) fn named(&self, which: u64, name: &str) -> u64 {
        self.state.hash_one((which, name))
    }
}

/// For maps by identity, which is a hash already.
pub(super) type ByIdentity = BuildHasherDefault<Hashed>;

/// The identity itself.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, identity: u64) {
        self.0 = self.0.rotate_left(8) ^ identity;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_identity_is_another_one_with_another_key() {
        let [one, two] = [Key::default(), Key::default()];
        assert_eq!(one.named(7, "a"), one.named(7, "a"));
        assert_ne!(one.named(7, "a"), two.named(7, "a"));
        assert_ne!(one.process(7, 8), two.process(7, 8));
        assert_ne!(one.named(7, "a"), one.named(8, "a"));
        let known: HashMap<u64, u8, ByIdentity> = HashMap::from_iter([(one.process(1, 2), 3)]);
        assert_eq!(known.get(&one.process(1, 2)), Some(&3));
    }
}
