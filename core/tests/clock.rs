//! The machine's wall clock is set while the agent runs.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use ebpf_process_core::engine::*;
use ebpf_process_core::testkit::ManualClock;
use ebpf_process_core::*;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than any machine is busy.
const MINUTE: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(1_600_000_000);

struct Stamps(Sender<Tick>);

impl Sink for Stamps {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        self.0.send(view.tick()).map_err(SinkError::closed)
    }
}

/// The timestamps of five batches, a second apart, and how many steps of the clock the agent counts. Before
/// the third one the clock is set so far back.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn stamps(back: Duration) -> (Vec<Duration>, u64) {
    let clock = Arc::new(ManualClock::new(START, 100 * SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    let (sender, ticks) = bounded(8);
    agent.push_sink(Box::new(Stamps(sender)), OutletSpec::new("stamps"), Arc::default()).expect("a sink");
    for batch in 0..5 {
        if batch == 2 {
            clock.set_wall((START + SECOND).saturating_sub(back));
        }
        agent.tick(clock.advance(if batch == 0 { Duration::ZERO } else { SECOND }));
    }
    let vitals = Arc::clone(agent.vitals());
    agent.close(MINUTE);
    (ticks.iter().map(|tick| tick.wall.saturating_sub(START)).collect(), vitals.clock_steps())
}

#[test]
fn a_clock_set_back_by_more_than_an_interval_is_followed_and_counted_once() {
    for back in [2100, 3_600_000] {
        let back = Duration::from_millis(back);
        let clock = Arc::new(ManualClock::new(START, 100 * SECOND));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
        let (sender, ticks) = bounded(8);
        agent.push_sink(Box::new(Stamps(sender)), OutletSpec::new("stamps"), Arc::default()).expect("a sink");
        let mut truth = Vec::new();
        for batch in 0..6 {
            if batch == 3 {
                clock.set_wall((START + 3 * SECOND).saturating_sub(back));
            }
            let moment = clock.advance(SECOND);
            truth.push(moment.wall);
            agent.tick(moment);
        }
        let vitals = Arc::clone(agent.vitals());
        agent.close(MINUTE);
        assert_eq!(ticks.iter().map(|tick| tick.wall).collect::<Vec<_>>(), truth, "set back by {back:?}");
        assert_eq!(vitals.clock_steps(), 1, "set back by {back:?}");
    }
}

#[test]
fn a_clock_set_back_by_less_is_waited_for_and_no_timestamp_comes_twice() {
    let step = Duration::from_micros(1);
    // A second passes between two batches: a step of 1.4 s leaves the clock 0.4 s behind.
    let (walls, steps) = stamps(1400 * Duration::from_millis(1));
    let expected =
        [Duration::ZERO, SECOND, SECOND + step, 1600 * Duration::from_millis(1), 2600 * Duration::from_millis(1)];
    assert_eq!((walls.as_slice(), steps), (expected.as_slice(), 1));
    // One that is set back to exactly the last timestamp, and one that is exactly an interval behind.
    assert_eq!(stamps(SECOND).0, [Duration::ZERO, SECOND, SECOND + step, 2 * SECOND, 3 * SECOND]);
    assert_eq!(stamps(2 * SECOND).0, [Duration::ZERO, SECOND, SECOND + step, SECOND + 2 * step, 2 * SECOND]);
    // A step that no batch can see.
    let (walls, steps) = stamps(Duration::from_millis(300));
    assert_eq!((walls[2], steps), (1700 * Duration::from_millis(1), 0));
    // Not even where a time is seconds in a floating-point number, as in JSON.
    for back in [SECOND, 2 * SECOND] {
        let seconds: Vec<f64> = stamps(back).0.iter().map(|wall| (START + *wall).as_secs_f64()).collect();
        assert!(seconds.windows(2).all(|pair| pair[0] < pair[1]), "{seconds:?}");
    }
}
