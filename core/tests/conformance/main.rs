//! The conformance kit tells right from wrong.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod broken;
mod store;
mod unusual;

use std::sync::Arc;
use std::time::Duration;

use broken::{Broken, Fault};
use ebpf_process_core::testkit::conformance::{Kit, Outcome, Peer, Report, Row};
use ebpf_process_core::{BuildError, Claims, Options, OptionsError, Sink, SinkContext, SinkPlugin};
use parking_lot::Mutex;
use store::{Keeps, Store};
use unusual::{Manner, Unusual};

/// What kind of sink is under test.
#[derive(Clone, Copy, Debug)]
enum Way {
    Broken(Fault),
    Unusual(Manner),
    /// Its `check` writes.
    ChecksAndWrites,
    /// Its `build` refuses what `check` takes.
    Disagrees,
}

struct Plugin(Way, Store);

impl SinkPlugin for Plugin {
    fn name(&self) -> &'static str {
        "made_up"
    }

    fn summary(&self) -> &'static str {
        "made up"
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        if matches!(self.0, Way::ChecksAndWrites) {
            self.1.put(store::Point { text: format!("{}", self.1.stored().len()), number: 1_u64.into() });
        }
        if options.is_same(&Options::none()) || matches!(self.0, Way::Disagrees) {
            Ok(Claims::default())
        } else {
            Err(options.refuse("", "there are no options"))
        }
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        if !options.is_same(&Options::none()) {
            return Err(options.refuse("", "there are no options").into());
        }
        let store = self.1.clone();
        Ok(match self.0 {
            Way::Broken(fault) => Box::new(Broken::new(fault, store, context)),
            Way::Unusual(manner) => Box::new(Unusual::new(manner, store, context)),
            Way::ChecksAndWrites | Way::Disagrees => Box::new(Unusual::new(Manner::Plain, store, context)),
        })
    }
}

/// A kit for a sink that stores in this process.
fn kit(way: Way, seed: u64) -> Kit {
    let keeps = match way {
        Way::Unusual(Manner::KeepsHistory) => Keeps::All,
        Way::Unusual(Manner::SendsGains) | Way::Broken(Fault::AddsGainsTwice | Fault::ForgetsReturningRows) => {
            Keeps::Sum
        }
        _ => Keeps::Newest,
    };
    let store = Store::new(keeps);
    let (plugin, stored) = (Plugin(way, store.clone()), store.clone());
    let kit = Kit::new(plugin, Options::none()).read_back(move || stored.stored()).seed(seed);
    // A sink of this process has stored what it has stored; only one that blocks is waited for.
    let limit = if matches!(way, Way::Broken(Fault::BlocksForEver | Fault::BlocksAtTheEnd)) { 300 } else { 20_000 };
    let kit = match way {
        Way::Broken(Fault::LosesWhatIsRefused) | Way::Unusual(Manner::SendsAgain) => kit.peer(move |peer| {
            store.refuse(matches!(peer, Peer::Refusing | Peer::Away));
            Ok(())
        }),
        _ => kit,
    };
    kit.rows(40).rebuilds(24).patience(Duration::from_millis(5)).limit(Duration::from_millis(limit))
}

const BROKEN: &[(Way, &[Row])] = &[
    (Way::Broken(Fault::LosesOneBatchInTen), &[Row::Gaps]),
    (Way::Broken(Fault::AcknowledgesBeforeSending), &[Row::EarlyAck]),
    (Way::Broken(Fault::AcknowledgesTwice), &[Row::DoubleAck, Row::LedgerIdentity]),
    (Way::Broken(Fault::BlocksForEver), &[Row::InTime]),
    (Way::Broken(Fault::ForgesALine), &[Row::HostileNames]),
    (Way::Broken(Fault::TruncatesLargeNumbers), &[Row::LargeNumbers]),
    (Way::Broken(Fault::RoundsLargeNumbers), &[Row::LargeNumbers]),
    (Way::Broken(Fault::MergesTwoRows), &[Row::TwinRows]),
    (Way::Broken(Fault::NeverSettles), &[Row::MissingAck]),
    (Way::Broken(Fault::TurnsBatchesAround), &[Row::Order]),
    (Way::Broken(Fault::HasZeroForAbsentCells), &[Row::AbsentCells]),
    (Way::Broken(Fault::LeavesOutEnds), &[Row::RowsEnd, Row::LateFinal]),
    (Way::Broken(Fault::AddsGainsTwice), &[Row::DeltaDoubled]),
    (Way::Broken(Fault::LosesTheLastSlot), &[Row::Histograms]),
    (Way::Broken(Fault::LosesTheLastBatch), &[Row::LastBatch]),
    (Way::Broken(Fault::RefusesEmptyBatches), &[Row::EmptyView]),
    (Way::Broken(Fault::PanicsAtNames), &[Row::Panic]),
    (Way::Broken(Fault::NamesItsInstance), &[Row::Purity]),
    (Way::Broken(Fault::NamesTheView), &[Row::Purity]),
    (Way::Broken(Fault::LeavesThreads), &[Row::NoGrowth]),
    (Way::Broken(Fault::ForgetsReturningRows), &[Row::RowsEnd]),
    (Way::Broken(Fault::LosesOneOfItsBatches), &[Row::Gaps]),
    (Way::Broken(Fault::PanicsAtItsEnd), &[Row::Panic]),
    (Way::Broken(Fault::BlocksAtTheEnd), &[Row::InTime]),
    (Way::Broken(Fault::LosesWhatIsRefused), &[Row::EachVerdict]),
    (Way::Broken(Fault::BeginsAnew), &[Row::Restart]),
    (Way::ChecksAndWrites, &[Row::CheckHasNoEffect]),
    (Way::Disagrees, &[Row::Refusal]),
];

const UNUSUAL: &[Manner] = &[
    Manner::Plain,
    Manner::KeepsHistory,
    Manner::HasBatchesOfItsOwn,
    Manner::SettlesOnAThread,
    Manner::SettlesLate,
    Manner::CountersOnly,
    Manner::RejectsOthers,
    Manner::DropsAndSaysSo,
    Manner::Fails,
    Manner::SendsAgain,
    Manner::OutOfOrder,
    Manner::SendsGains,
    Manner::RejectsLargeNumbers,
    Manner::IsAlwaysDue,
    Manner::SendsTheNewest,
];

/// One at a time: the kit counts the threads of its process.
static TURN: Mutex<()> = Mutex::new(());

fn judge(seeds: std::ops::Range<u64>) {
    let _turn = TURN.lock();
    let mut wrong = Vec::new();
    for seed in seeds {
        for (way, rows) in BROKEN {
            let report = kit(*way, seed).run();
            if report.failed() != *rows || report.passed() {
                wrong.push(format!("{way:?} fails {:?}, and should fail {rows:?}:\n{report}", report.failed()));
            }
        }
        for manner in UNUSUAL {
            let report = kit(Way::Unusual(*manner), seed).run();
            if !report.passed() {
                wrong.push(format!("{manner:?} is right:\n{report}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are misjudged\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn each_broken_sink_fails_its_own_rows_and_each_unusual_one_passes_under_twenty_seeds() {
    judge(0..20);
}

#[test]
fn a_right_sink_passes_with_all_rows_and_rebuilds() {
    let _turn = TURN.lock();
    let store = Store::default();
    let plugin = Plugin(Way::Unusual(Manner::Plain), store.clone());
    let report = Kit::new(plugin, Options::none()).read_back(move || store.stored()).run();
    report.assert_passed();
    let not_run: Vec<_> = outcomes(&report, Outcome::NotRun);
    assert_eq!(not_run, [Row::SlowPeer, Row::EachVerdict], "nobody tells the receiver how to behave");
}

#[test]
fn what_nobody_reads_back_is_not_verified_and_what_fails_fails_all_the_same() {
    let _turn = TURN.lock();
    let run = |way| {
        let plugin = Plugin(way, Store::default());
        Kit::new(plugin, Options::none()).rows(50).rebuilds(20).run()
    };
    let report = run(Way::Unusual(Manner::Plain));
    assert_eq!((report.exit(), report.passed(), report.failed()), (3, false, Vec::new()), "{report}");
    assert!(outcomes(&report, Outcome::NotVerified).contains(&Row::Gaps));
    assert!(outcomes(&report, Outcome::Passed).contains(&Row::InTime));
    let report = run(Way::Broken(Fault::AcknowledgesTwice));
    assert_eq!((report.exit(), report.failed()), (1, vec![Row::DoubleAck, Row::LedgerIdentity]), "{report}");
}

#[test]
fn a_sink_whose_receiver_does_not_answer_ends_the_test_at_the_first_check() {
    let _turn = TURN.lock();
    for manner in [Manner::Silent, Manner::Refused] {
        let report = kit(Way::Unusual(manner), 1).limit(Duration::from_millis(300)).run();
        assert_eq!(report.failed(), [Row::InTime], "{report}");
        assert!(outcomes(&report, Outcome::NotRun).contains(&Row::Gaps), "{report}");
        assert_eq!(report.exit(), 1);
    }
}

#[test]
fn a_receiver_that_is_told_how_to_behave_is_slow_refuses_and_goes_away() {
    let _turn = TURN.lock();
    let (store, peer) = (Store::default(), Arc::new(Mutex::new(Vec::new())));
    let plugin = Plugin(Way::Unusual(Manner::Plain), store.clone());
    let told = Arc::clone(&peer);
    let kit = Kit::new(plugin, Options::none()).rows(50).rebuilds(20).refusals(2);
    let tell = move |manner| {
        peer.lock().push(manner);
        Ok(())
    };
    let report = kit.read_back(move || store.stored()).peer(tell).run();
    report.assert_passed();
    assert_eq!(outcomes(&report, Outcome::NotRun), [], "{report}");
    let each = [Peer::Slow, Peer::Refusing, Peer::Refusing, Peer::Away];
    let told = told.lock();
    let told: Vec<_> = told.iter().copied().filter(|manner| *manner != Peer::Well).collect();
    assert_eq!(told, each);
}

#[test]
fn a_receiver_that_cannot_be_told_fails_the_check_that_asks_for_it() {
    let _turn = TURN.lock();
    let tell = |manner| if manner == Peer::Away { Err("it stays".to_owned()) } else { Ok(()) };
    let report = kit(Way::Unusual(Manner::Plain), 1).peer(tell).run();
    assert_eq!(report.failed(), [Row::EachVerdict], "{report}");
    let found = report.findings().iter().find(|finding| finding.row == Row::EachVerdict);
    assert_eq!(found.map(|finding| &*finding.seen), Some("it stays"));
}

#[test]
fn what_no_receiver_can_do_is_not_applicable_for_a_stated_reason_and_only_then() {
    let _turn = TURN.lock();
    let seen = |report: &Report, row| {
        let found = report.findings().iter().find(|finding| finding.row == row).expect("each row");
        (found.outcome, found.seen.clone())
    };
    let no_answer = |kit: Kit| kit.not_applicable(Peer::Refusing, "there is no answer");
    let no_peer =
        |kit: Kit| no_answer(kit).not_applicable(Peer::Away, "nobody looks").not_applicable(Peer::Slow, "the same");
    let report = no_peer(kit(Way::Unusual(Manner::Plain), 1)).run();
    assert_eq!((report.exit(), report.passed()), (0, true), "{report}");
    assert_eq!(seen(&report, Row::SlowPeer), (Outcome::NotApplicable, "no receiver is slow: the same".to_owned()));
    let both = "no receiver is refusing: there is no answer; no receiver is away: nobody looks";
    assert_eq!(seen(&report, Row::EachVerdict), (Outcome::NotApplicable, both.to_owned()));
    assert!(
        report.to_string().ends_with("26 passed, 0 failed, 0 not verified, 0 not run, 2 not applicable"),
        "{report}"
    );
    assert!(report.to_json().contains(r#""outcome":"not_applicable""#));

    // What is left of a check is made, and fails whoever loses something.
    let report = no_answer(kit(Way::Broken(Fault::LosesWhatIsRefused), 1)).run();
    assert_eq!(report.failed(), [Row::EachVerdict], "{report}");
    let report = no_answer(kit(Way::Unusual(Manner::SendsAgain), 1)).run();
    assert_eq!(seen(&report, Row::EachVerdict).0, Outcome::Passed, "{report}");
    assert_eq!(seen(&report, Row::EachVerdict).1, "no receiver is refusing: there is no answer");
    // And where nobody can tell the receiver, it is not run.
    let report = no_answer(kit(Way::Unusual(Manner::Plain), 1)).run();
    assert_eq!(seen(&report, Row::EachVerdict).0, Outcome::NotRun, "{report}");

    for (peer, why) in [(Peer::Well, "never"), (Peer::Slow, " ")] {
        let stated = std::panic::catch_unwind(|| kit(Way::Unusual(Manner::Plain), 1).not_applicable(peer, why));
        assert!(stated.is_err(), "{peer:?} {why:?}");
    }
}

#[test]
fn the_report_is_json_on_demand() {
    let _turn = TURN.lock();
    let report = kit(Way::Disagrees, 7).run();
    let page: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(
        (page["sink"].as_str(), page["seed"].as_u64(), page["exit"].as_u64()),
        (Some("made_up"), Some(7), Some(1))
    );
    let failed = page["checks"].as_array().expect("checks").iter().find(|check| check["outcome"] == "failed");
    assert_eq!(failed.map(|check| &check["check"]), Some(&"refusal at build".into()));
}

fn outcomes(report: &Report, outcome: Outcome) -> Vec<Row> {
    report.findings().iter().filter(|finding| finding.outcome == outcome).map(|finding| finding.row).collect()
}
