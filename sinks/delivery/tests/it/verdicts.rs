//! What each verdict does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ebpf_process_core::State;
use ebpf_process_delivery::{DeliveryOptions, Frame, Verdict};
use parking_lot::Mutex;

use crate::rig::{Rig, SECOND, frame, numbers, retry};

fn rejected() -> Verdict {
    Verdict::Rejected { reason: "malformed", problem: "unable to parse".to_owned() }
}

/// A receiver that refuses a frame with these numbers in it, and what it took and how often it was
/// asked.
fn poisoned(poison: &'static [u64], overwrites: bool) -> (Rig, Arc<Mutex<Vec<u64>>>, Arc<AtomicU32>) {
    let (taken, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
    let (sink, asks) = (Arc::clone(&taken), Arc::clone(&asked));
    let rig = Rig::of(&DeliveryOptions::default(), overwrites, move |frame| {
        asks.fetch_add(1, Ordering::Relaxed);
        let numbers = numbers(frame);
        if numbers.iter().any(|number| poison.contains(number)) {
            return rejected();
        }
        sink.lock().extend(numbers);
        Verdict::Accepted
    });
    (rig, taken, asked)
}

#[test]
fn a_poisoned_line_is_isolated_and_rejected_alone() {
    let (mut rig, taken, asked) = poisoned(&[0, 700, 701, 4999], true);
    rig.offer(frame(0..5000));
    rig.finish();
    let tally = rig.tally();
    assert_eq!((tally.written, &tally.rejected[..]), (4996, &[("malformed", 4)][..]));
    assert!(taken.lock().is_sorted());
    assert!(asked.load(Ordering::Relaxed) <= 4 * 2 * 13, "{asked:?}");
}

/// The named numbers of a frame.
fn apart(frame: &Frame, named: impl Fn(u64) -> bool) -> Frame {
    let mut pieces = Frame::default();
    for number in numbers(frame).into_iter().filter(|number| named(*number)) {
        pieces.push(format!("{number:06}\n").as_bytes(), 1);
    }
    pieces
}

#[test]
fn what_a_receiver_wants_in_pieces_is_sent_again_and_the_rest_is_written() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    // It wants the odd ones again, and then refuses one of them.
    let mut rig = Rig::new(&DeliveryOptions::default(), move |frame| {
        let numbers = numbers(frame);
        let first = log.lock().is_empty();
        log.lock().push(numbers.clone());
        let (reason, problem) = ("malformed", "no".to_owned());
        if first {
            return Verdict::Again { pieces: apart(frame, |number| number % 2 == 1), reason, problem };
        }
        if numbers.contains(&3) { rejected() } else { Verdict::Accepted }
    });
    rig.offer(frame(0..6));
    rig.finish();
    let tally = rig.tally();
    assert_eq!((tally.written, &tally.rejected[..]), (5, &[("malformed", 1)][..]));
    assert_eq!(*sent.lock(), [&[0, 1, 2, 3, 4, 5][..], &[1, 3, 5], &[1], &[3, 5], &[3], &[5]]);
}

#[test]
fn a_receiver_that_wants_everything_again_for_ever_is_asked_a_bounded_number_of_times() {
    let asked = Arc::new(AtomicU32::new(0));
    let asks = Arc::clone(&asked);
    let mut rig = Rig::new(&DeliveryOptions::default(), move |frame| {
        asks.fetch_add(1, Ordering::Relaxed);
        Verdict::Again { pieces: frame.clone(), reason: "malformed", problem: "no".to_owned() }
    });
    rig.offer(frame(0..10));
    rig.finish();
    assert_eq!(rig.tally().rejected, [("malformed", 10)]);
    assert_eq!(asked.load(Ordering::Relaxed), 256 + 1);
}

#[test]
fn what_is_wanted_again_says_that_others_get_through_if_a_part_of_it_does() {
    // The first frame is refused in doubt. Of the next one all is wanted again or a part, which is then refused.
    for (again, rejected_in_all) in [(2, 2), (1, 1 + 2)] {
        let mut asked = 0;
        let mut rig = Rig::new(&DeliveryOptions::default(), move |given| {
            asked += 1;
            match asked {
                2 => Verdict::Again { pieces: frame(2..2 + again), reason: "malformed", problem: "no".to_owned() },
                _ if numbers(given)[0] == 0 => doubtful(),
                _ => rejected(),
            }
        });
        rig.offer(frame(0..2));
        rig.delivery.work();
        rig.offer(frame(2..4));
        for _ in 0..6 {
            rig.wait(SECOND * 60);
            rig.delivery.work();
        }
        let tally = rig.tally();
        assert_eq!((tally.rejected_total(), tally.written), (rejected_in_all, 2 - again));
    }
}

#[test]
fn who_wants_more_again_than_there_was_gets_nothing() {
    let mut rig = Rig::new(&DeliveryOptions::default(), |_| Verdict::Again {
        pieces: frame(0..3),
        reason: "malformed",
        problem: "no".to_owned(),
    });
    rig.offer(frame(0..2));
    rig.delivery.work();
    assert_eq!((rig.tally().rejected_total(), rig.tally().queued), (2, 0));
}

#[test]
fn a_frame_that_would_count_twice_is_rejected_as_a_whole() {
    let (mut rig, taken, asked) = poisoned(&[3], false);
    rig.offer(frame(0..10));
    rig.offer(frame(10..20));
    rig.finish();
    assert_eq!(rig.tally().rejected, [("malformed", 10)]);
    assert_eq!((taken.lock().len(), asked.load(Ordering::Relaxed)), (10, 2));
}

#[test]
fn a_receiver_that_refuses_everything_is_asked_a_bounded_number_of_times() {
    let asked = Arc::new(AtomicU32::new(0));
    let asks = Arc::clone(&asked);
    let mut rig = Rig::new(&DeliveryOptions::default(), move |_| {
        asks.fetch_add(1, Ordering::Relaxed);
        rejected()
    });
    rig.offer(frame(0..100_000));
    rig.finish();
    assert_eq!(rig.tally().rejected, [("malformed", 100_000)]);
    assert!(asked.load(Ordering::Relaxed) <= 600, "{asked:?}");
}

#[test]
fn what_is_too_large_is_halved_and_a_single_item_is_rejected() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&taken);
    // Also where nothing overwrites itself: too large means that nothing was kept.
    let mut rig = Rig::of(&DeliveryOptions::default(), false, move |frame| {
        if frame.bytes().len() > 100 {
            return Verdict::TooLarge { problem: "too large".to_owned() };
        }
        sink.lock().extend(numbers(frame));
        Verdict::Accepted
    });
    let mut large = frame(0..200);
    large.push(format!("{:0200}\n", 200).as_bytes(), 1);
    rig.offer(large);
    rig.finish();
    assert_eq!(*taken.lock(), (0..200).collect::<Vec<_>>());
    assert_eq!(rig.tally().rejected, [("too large for the receiver", 1)]);
}

#[test]
fn a_partial_write_is_rejected_as_far_as_the_receiver_says() {
    for (rejected, written) in [(3, 7), (10, 0), (u64::MAX, 0)] {
        let mut rig = Rig::new(&DeliveryOptions::default(), move |_| Verdict::Partly {
            rejected,
            reason: "partial write",
            problem: "type conflict".to_owned(),
        });
        rig.offer(frame(0..10));
        rig.finish();
        let tally = rig.tally();
        assert_eq!((tally.written, &tally.rejected[..]), (written, &[("partial write", 10 - written)][..]));
    }
}

/// A delivery whose receiver gives these verdicts and then takes everything.
fn scripted(verdicts: Vec<Verdict>) -> Rig {
    let mut verdicts = verdicts.into_iter();
    Rig::new(&DeliveryOptions::default(), move |_: &Frame| verdicts.next().unwrap_or(Verdict::Accepted))
}

#[test]
fn a_retry_waits_and_the_frame_is_kept() {
    let mut rig = scripted(vec![retry(), retry()]);
    rig.offer(frame(0..10));
    rig.delivery.work();
    let due = rig.delivery.due().expect("another attempt");
    assert!(due > rig.now() && due <= rig.now() + SECOND);
    rig.delivery.work();
    assert_eq!(rig.delivery.due(), Some(due), "an attempt too early");
    rig.finish();
    let tally = rig.tally();
    assert_eq!((tally.written, tally.queued), (10, 0));
    assert_eq!(rig.delivery.due(), None);
}

#[test]
fn a_receiver_is_left_alone_as_long_as_it_asks_for() {
    let mut rig = scripted(vec![Verdict::Retry { after: Some(30 * SECOND), problem: "busy".to_owned() }]);
    rig.offer(frame(0..10));
    rig.delivery.work();
    assert!(rig.delivery.due() >= Some(rig.now() + 30 * SECOND));
    rig.wait(29 * SECOND);
    rig.delivery.work();
    assert_eq!(rig.tally().written, 0);
    rig.wait(3 * SECOND);
    rig.delivery.work();
    assert_eq!(rig.tally().written, 10);
}

#[test]
fn wrong_credentials_keep_the_data_and_are_tried_rarely() {
    let mut rig = scripted(vec![Verdict::Misconfigured { problem: "unauthorized".to_owned() }; 10]);
    rig.offer(frame(0..10));
    let started = rig.now();
    rig.finish();
    assert!(rig.now() - started >= 10 * 30 * SECOND);
    assert_eq!(rig.tally().written, 10);
}

#[test]
fn a_full_memory_drops_the_oldest() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (sink, away) = (Arc::clone(&taken), Arc::new(Mutex::new(true)));
    let gone = Arc::clone(&away);
    let size = frame(0..10).size() as u64;
    let mut rig = Rig::new(&DeliveryOptions { memory: 5 * size, ..DeliveryOptions::default() }, move |frame| {
        if *gone.lock() {
            return retry();
        }
        sink.lock().extend(numbers(frame));
        Verdict::Accepted
    });
    for n in 0..20 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.delivery.work();
        rig.tally();
    }
    *away.lock() = false;
    rig.finish();
    assert_eq!(*taken.lock(), (150..200).collect::<Vec<_>>());
    assert_eq!(rig.tally().dropped, [("memory full", 150)]);
}

#[test]
fn a_frame_larger_than_the_memory_is_sent_or_dropped_and_an_empty_one_is_nothing() {
    let mut here = true;
    let mut rig = Rig::new(&DeliveryOptions { memory: 10, ..DeliveryOptions::default() }, move |_| {
        if std::mem::take(&mut here) { Verdict::Accepted } else { retry() }
    });
    rig.offer(frame(0..10));
    rig.offer(Frame::default());
    assert_eq!((rig.delivery.due(), rig.tally().written), (None, 10));
    rig.offer(frame(10..20));
    assert_eq!(rig.tally().dropped, [("memory full", 10)]);
}

#[test]
fn what_is_larger_than_the_memory_goes_out_while_it_is_made() {
    for on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&taken);
        let size = frame(0..10).size() as u64;
        let spool = on_disk.then(|| folder.path().to_owned());
        let options = DeliveryOptions { memory: 2 * size, spool, ..DeliveryOptions::default() };
        let mut rig = Rig::new(&options, move |frame| {
            sink.lock().extend(numbers(frame));
            Verdict::Accepted
        });
        for n in 0..100 {
            rig.offer(frame(n * 10..n * 10 + 10));
            assert!(rig.tally().queued <= 20, "{:?}", rig.tally());
        }
        rig.finish();
        assert_eq!(*taken.lock(), (0..1000).collect::<Vec<_>>());
        assert_eq!((rig.tally().written, rig.tally().dropped_total()), (1000, 0));
    }
}

fn doubtful() -> Verdict {
    Verdict::Doubtful { reason: "malformed", problem: "somebody else answers".to_owned() }
}

#[test]
fn a_frame_refused_in_doubt_is_to_blame_when_others_get_through_and_blocks_nobody() {
    for on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&taken);
        let spool = on_disk.then(|| folder.path().to_owned());
        let mut rig = Rig::new(&DeliveryOptions { spool, ..DeliveryOptions::default() }, move |frame| {
            let numbers = numbers(frame);
            if numbers.contains(&13) {
                return doubtful();
            }
            sink.lock().extend(numbers);
            Verdict::Accepted
        });
        let start = rig.now();
        for n in 0..5 {
            rig.offer(frame(n * 10..n * 10 + 10));
        }
        rig.finish();
        let tally = rig.tally();
        assert_eq!((tally.written, &tally.rejected[..]), (49, &[("malformed", 1)][..]));
        let mut taken = taken.lock().clone();
        taken.sort_unstable();
        assert_eq!(taken, (0..50).filter(|n| *n != 13).collect::<Vec<_>>());
        assert!(rig.now() - start < SECOND * 60, "{:?}", rig.now() - start);
    }
}

#[test]
fn poisoned_frames_in_a_row_block_nobody() {
    for (poisoned, on_disk) in [(2, false), (2, true), (20, false), (20, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&taken);
        let away = Arc::new(AtomicBool::new(on_disk));
        let is_away = Arc::clone(&away);
        let spool = on_disk.then(|| folder.path().to_owned());
        let mut rig = Rig::new(&DeliveryOptions { spool, ..DeliveryOptions::default() }, move |frame| {
            let numbers = numbers(frame);
            if is_away.load(Ordering::Relaxed) {
                return retry();
            }
            // One line of each of the first frames.
            if numbers.iter().any(|number| number % 10 == 3 && *number < poisoned * 10) {
                return doubtful();
            }
            sink.lock().extend(numbers);
            Verdict::Accepted
        });
        let start = rig.now();
        for n in 0..poisoned + 5 {
            rig.offer(frame(n * 10..n * 10 + 10));
            rig.delivery.work();
        }
        away.store(false, Ordering::Relaxed);
        let healthy = poisoned * 10;
        while !taken.lock().iter().any(|number| *number >= healthy) {
            rig.wait(SECOND);
            rig.delivery.work();
            assert!(rig.now() - start < SECOND * 60 * 30, "{poisoned} {on_disk}: a healthy frame is blocked");
        }
        rig.finish();
        let tally = rig.tally();
        assert_eq!((tally.written, &tally.rejected[..]), (poisoned * 9 + 50, &[("malformed", poisoned)][..]));
        let mut taken = taken.lock().clone();
        taken.sort_unstable();
        assert_eq!(taken, (0..healthy + 50).filter(|n| n % 10 != 3 || *n > healthy).collect::<Vec<_>>());
        assert!(rig.now() - start < SECOND * 60 * 40, "{poisoned} {on_disk}: {:?}", rig.now() - start);
        assert_eq!(rig.state(), State::Working);
    }
}

#[test]
fn a_receiver_that_breaks_down_again_costs_one_frame_and_not_all_that_was_refused_before() {
    let answers = Arc::new(Mutex::new(false));
    let here = Arc::clone(&answers);
    let mut rig = Rig::new(&DeliveryOptions::default(), move |_| {
        // It takes a single frame.
        if std::mem::take(&mut *here.lock()) { Verdict::Accepted } else { doubtful() }
    });
    for n in 0..10 {
        rig.offer(frame(n * 10..n * 10 + 10));
    }
    let work = |rig: &mut Rig| {
        for _ in 0..20 * 60 {
            rig.delivery.work();
            rig.wait(SECOND);
        }
    };
    work(&mut rig);
    *answers.lock() = true;
    work(&mut rig);
    let tally = rig.tally();
    assert_eq!((tally.written, tally.rejected_total(), tally.queued), (10, 10, 80));
}

#[test]
fn while_nothing_gets_through_what_is_refused_in_doubt_is_kept_and_asked_for_rarely() {
    for on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = on_disk.then(|| folder.path().to_owned());
        let (asked, wrong) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(true)));
        let (asks, doorkeeper) = (Arc::clone(&asked), Arc::clone(&wrong));
        let mut rig = Rig::new(&DeliveryOptions { spool, ..DeliveryOptions::default() }, move |_| {
            asks.fetch_add(1, Ordering::Relaxed);
            if *doorkeeper.lock() { doubtful() } else { Verdict::Accepted }
        });
        for n in 0..3000 {
            rig.offer(frame(n * 10..n * 10 + 10));
            rig.delivery.work();
            rig.wait(SECOND);
            let tally = rig.tally();
            assert_eq!((tally.written, tally.rejected_total(), tally.dropped_total()), (0, 0, 0));
            assert_eq!(rig.state(), State::Failing);
        }
        assert!(asked.load(Ordering::Relaxed) < 300, "{asked:?}");
        *wrong.lock() = false;
        rig.finish();
        assert_eq!((rig.tally().written, rig.state()), (30_000, State::Working));
    }
}

#[test]
fn what_nobody_took_for_an_hour_is_given_up_frame_by_frame() {
    let mut rig = Rig::new(&DeliveryOptions::default(), |_| doubtful());
    for n in 0..10 {
        rig.offer(frame(n * 10..n * 10 + 10));
    }
    for _ in 0..59 * 60 {
        rig.delivery.work();
        rig.wait(SECOND);
    }
    assert_eq!(rig.tally().queued, 100);
    for _ in 0..60 * 60 {
        rig.delivery.work();
        rig.wait(SECOND);
    }
    let rejected = rig.tally().rejected_total();
    assert!((10..=20).contains(&rejected), "{rejected}");
    rig.delivery.close();
    assert_eq!(rig.tally().dropped, [("agent stopped", 100 - rejected)]);
}

#[test]
fn of_what_is_on_disk_half_of_the_memory_may_be_in_doubt() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = 4 * frame(0..10).size() as u64;
    let spool = Some(folder.path().to_owned());
    let mut rig = Rig::new(&DeliveryOptions { memory, spool, ..DeliveryOptions::default() }, |_| doubtful());
    for n in 0..10 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.delivery.work();
        rig.wait(SECOND * 60);
    }
    for _ in 0..10 {
        rig.delivery.work();
        rig.wait(SECOND * 60);
    }
    assert_eq!((rig.tally().queued, rig.tally().spooled), (20, 80));

    // A single one may be larger.
    let folder = tempfile::tempdir().expect("a folder");
    let (memory, spool) = (frame(0..15).size() as u64, Some(folder.path().to_owned()));
    let mut away = true;
    let mut rig = Rig::new(&DeliveryOptions { memory, spool, ..DeliveryOptions::default() }, move |_| {
        if std::mem::take(&mut away) { retry() } else { doubtful() }
    });
    rig.offer(frame(0..10));
    rig.delivery.work();
    assert_eq!((rig.tally().queued, rig.tally().spooled), (0, 10));
    rig.wait(SECOND * 60);
    rig.delivery.work();
    assert_eq!((rig.tally().queued, rig.tally().spooled), (10, 0));
}

#[test]
fn what_is_in_memory_alone_is_tried_frame_by_frame_however_much_is_in_doubt() {
    let memory = 4 * frame(0..10).size() as u64;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = Arc::clone(&asked);
    let mut rig = Rig::new(&DeliveryOptions { memory, ..DeliveryOptions::default() }, move |frame| {
        asks.lock().push(numbers(frame)[0]);
        doubtful()
    });
    for n in 0..4 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.delivery.work();
        rig.wait(SECOND * 60);
    }
    rig.delivery.work();
    assert_eq!(*asked.lock(), [0, 10, 20, 30, 0]);
}

#[test]
fn a_stop_keeps_what_is_in_doubt_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = DeliveryOptions { spool: Some(folder.path().to_owned()), ..DeliveryOptions::default() };
    let mut rig = Rig::new(&options, |_| doubtful());
    for n in 0..3 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.delivery.work();
    }
    rig.delivery.close();
    assert_eq!((rig.tally().spooled, rig.tally().queued), (30, 0));
    drop(rig);
    let mut again = Rig::new(&options, |_| Verdict::Accepted);
    again.finish();
    assert_eq!(again.tally().written, 30);
}

#[test]
fn a_stop_sends_what_is_there_and_counts_what_is_left() {
    let mut rig = scripted(Vec::new());
    for n in 0..10 {
        rig.offer(frame(n * 10..n * 10 + 10));
    }
    rig.delivery.close();
    assert_eq!(rig.tally().written, 100);

    let mut rig = Rig::new(&DeliveryOptions::default(), |_| retry());
    rig.offer(frame(0..10));
    rig.delivery.work();
    rig.offer(frame(10..20));
    rig.delivery.close();
    assert_eq!(rig.tally().dropped, [("agent stopped", 20)]);
}

#[test]
fn all_but_the_newest_frame_go_out_as_they_are_offered() {
    let mut rig = scripted(Vec::new());
    (0..3).for_each(|n| rig.offer(frame(n * 10..n * 10 + 10)));
    assert_eq!((rig.tally().written, rig.tally().queued), (20, 10));
    rig.delivery.work();
    assert_eq!(rig.tally().written, 30);
}

#[test]
fn wherever_frames_wait_they_are_shown_and_take_room() {
    let mut verdicts = vec![doubtful(), retry()].into_iter();
    let memory = 4 * frame(0..10).size() as u64;
    let answer = move |_: &Frame| verdicts.next().unwrap_or(Verdict::Accepted);
    let mut rig = Rig::new(&DeliveryOptions { memory, ..DeliveryOptions::default() }, answer);
    for n in 0..2 {
        rig.offer(frame(n * 10..n * 10 + 10));
        rig.delivery.work();
        rig.wait(SECOND * 60);
    }
    // One was refused in doubt, one is held, and two are behind it.
    (2..4).for_each(|n| rig.offer(frame(n * 10..n * 10 + 10)));
    let shown = format!("{:?}", rig.delivery);
    assert!(shown.contains("waiting: 4,"), "{shown}");
    assert_eq!((rig.tally().queued, rig.tally().dropped_total()), (40, 0), "there is room for four");
    rig.offer(frame(40..50));
    assert_eq!((rig.tally().queued, rig.tally().dropped_total()), (40, 10));
}
