//! The frames that are being delivered, in their order.

use std::collections::VecDeque;

use crate::front::pop_if;
use crate::hand::{Hand, Stage};

/// Frames between the oldest that is not settled and the newest that is being delivered. Each has a place, a number that
/// no other one has ever had; those that are settled before an older one leave a gap, so that each is found at once.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The place of the first one.
    first: u64,
    hands: VecDeque<Option<Hand>>,
    /// How many are with the receiver, unanswered.
    in_flight: usize,
}

impl Window {
    /// Takes a frame in and returns its place.
    pub(crate) fn push(&mut self, hand: Hand) -> u64 {
        self.hands.push_back(Some(hand));
        self.first + self.span() as u64 - 1
    }

    pub(crate) fn get(&mut self, place: u64) -> Option<&mut Hand> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.hands.get_mut(index)?.as_mut()
    }

    /// Takes a frame out.
    pub(crate) fn remove(&mut self, place: u64) -> Option<Hand> {
        self.is_answered(place);
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        let hand = self.hands.get_mut(index)?.take();
        while pop_if(&mut self.hands, Option::is_none).is_some() {
            self.first += 1;
        }
        hand
    }

    /// It goes to the receiver.
    pub(crate) fn goes(&mut self, place: u64) {
        let before = self.get(place).map(|hand| std::mem::replace(&mut hand.stage, Stage::InFlight));
        self.in_flight += usize::from(before.is_some_and(|before| before != Stage::InFlight));
    }

    /// The receiver has answered. Whether it had it.
    pub(crate) fn is_answered(&mut self, place: u64) -> bool {
        self.comes_back(place, Stage::Waiting)
    }

    /// The receiver's answers are not waited for any more.
    pub(crate) fn waits_no_longer(&mut self) {
        for place in self.first..self.first + self.span() as u64 {
            self.comes_back(place, Stage::Unanswered);
        }
    }

    fn comes_back(&mut self, place: u64, stage: Stage) -> bool {
        let Some(hand) = self.get(place).filter(|hand| hand.is_in_flight()) else { return false };
        hand.stage = stage;
        self.in_flight -= 1;
        true
    }

    /// How many are with the receiver, unanswered.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many places there are from the oldest one to the newest, gaps included.
    pub(crate) fn span(&self) -> usize {
        self.hands.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hands.is_empty()
    }

    /// All that are not settled with their places, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Hand)> {
        (self.first..).zip(&self.hands).filter_map(|(place, hand)| Some((place, hand.as_ref()?)))
    }

    /// All that are not settled, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Hand> {
        self.hands.iter_mut().flatten()
    }

    /// Takes all out, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Hand> {
        self.first += self.hands.len() as u64;
        self.in_flight = 0;
        self.hands.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_once() {
        let mut window = Window::default();
        assert!(window.is_empty());
        let places: Vec<_> = (0..3).map(|_| window.push(Hand::default())).collect();
        assert_eq!((places, window.is_empty(), window.span()), (vec![0, 1, 2], false, 3));
        window.goes(1);
        window.goes(1);
        assert_eq!(window.in_flight(), 1);
        assert_eq!((window.drain().count(), window.in_flight(), window.is_empty()), (3, 0, true));
        assert_eq!(window.push(Hand::default()), 3);
        window.remove(3);
        assert_eq!((window.is_empty(), window.push(Hand::default())), (true, 4));
    }
}
