//! The influx sink end to end: the release agent sends the workload's known numbers to real `InfluxDB` 1 and
//! `VictoriaMetrics`, in each way they have, and they hold the same totals, to the unit.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::expect;
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::receivers::victoria::Victoria;
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::workload::{Place, Workload, int80_works};
use ebpf_process_tests::{Failure, Outcome, live, rows, wait};
use std::fmt::Write as _;
use std::time::Duration;

/// Longer than any retry waits here, and than any receiver keeps a number to itself.
const SETTLE: Duration = Duration::from_secs(30);

/// An agent with a sink `db`, beside a process of known numbers that stands still.
struct Scene {
    agent: Agent,
    target: Workload,
    _place: Place,
}

impl Scene {
    fn new(url: &str, options: &[String]) -> Outcome<Self> {
        let place = Place::new()?;
        let target = place.all(int80_works(&place)?)?;
        let mut settings = vec![
            "probes.mode=return".to_owned(),
            format!("probes.only={{pid={}}}", target.pid()),
            "sinks.db.type=influx".to_owned(),
            format!("sinks.db.options.url=\"{url}\""),
            "sinks.db.options.delivery.retry_max=\"1s\"".to_owned(),
            // As long at ten batches a second as the default is at one: a server that comes up answers late.
            "sinks.db.queue=80".to_owned(),
        ];
        settings.extend(rows::switched_on());
        settings.extend(options.iter().map(|option| format!("sinks.db.options.{option}")));
        let mut agent = Agent::start(&settings)?;
        agent.wait_for_first_batch()?;
        Ok(Self { agent, target, _place: place })
    }

    /// The whole workload, start to end.
    fn run(self, stored: impl FnMut() -> Outcome<Totals>) -> Outcome<()> {
        self.run_but_for(None, stored).map(drop)
    }

    /// The same, but a metric that the receiver refuses; returns what the agent wrote on its stdout.
    fn run_but_for(mut self, refused: Option<&str>, stored: impl FnMut() -> Outcome<Totals>) -> Outcome<Totals> {
        self.target.run_to_next_stop()?;
        self.target.run_to_end()?;
        self.wait_for_all(refused, stored)?;
        self.end()
    }

    /// Returns when the receiver holds the whole workload, but a metric that it refuses.
    fn wait_for_all(&mut self, refused: Option<&str>, mut stored: impl FnMut() -> Outcome<Totals>) -> Outcome<()> {
        let mut differences = String::new();
        let equal = wait::until("equal totals", SETTLE, || {
            differences = compare(self.agent.totals()?, &stored()?, refused)?;
            Ok(differences.is_empty().then_some(()))
        });
        equal.map_err(|failure| Failure::new(format!("{failure}\n{differences}")))
    }

    /// Ends the agent, and checks that its ledger adds up; returns what it wrote on its stdout.
    fn end(self) -> Outcome<Totals> {
        let (status, totals) = self.agent.stop()?;
        let samples = totals.samples("db");
        let of = |state| samples.get(state).copied().unwrap_or_default();
        let waiting = waiting(&totals);
        let settled = of("written") + of("unconfirmed") + of("superseded");
        let accounted = settled + of("failed") + of("dropped") + of("rejected") + waiting;
        if status.success() && of("offered").to_bits() == accounted.to_bits() {
            return Ok(totals);
        }
        Err(Failure::new(format!("{status}; the ledger is {samples:?} and {waiting} waiting")))
    }
}

fn waiting(totals: &Totals) -> f64 {
    totals.get("agent.samples_waiting", Some(("sink", "db"))).unwrap_or_default()
}

/// All that is not as it should be, a line each, but for a metric that is refused.
fn compare(counted: &Totals, stored: &Totals, refused: Option<&str>) -> Outcome<String> {
    let mut differences = String::new();
    for expected in expect::whole_workload() {
        let metric = expected.metric;
        if refused == Some(metric.name) {
            continue;
        }
        let wanted = expected.received(counted);
        let got = stored.get(metric.name, metric.label);
        if got != Some(wanted) {
            writeln!(differences, "{metric} is {got:?}, not {wanted}").map_err(Failure::at("the differences"))?;
        }
    }
    Ok(differences)
}

fn database(influx: &Influx) -> String {
    format!("database={}", influx.database())
}

fn with_influx(name: &str, body: impl FnOnce(Influx) -> Outcome<()>) {
    let needs = agent::can_run().and_then(|()| Influx::is_installed());
    live::test(name, needs, || body(Influx::start()?));
}

#[test]
fn influx_by_http_in_either_form_of_lines_compressed_or_not_holds_the_workload_to_the_unit() {
    with_influx("influx-http", |influx| {
        for (gzip, lines) in [(true, "per-row"), (false, "per-value")] {
            let influx = if gzip { &influx } else { &Influx::start()? };
            let options = [database(influx), format!("gzip={gzip}"), format!("lines={lines}")];
            Scene::new(influx.url(), &options)?.run(|| influx.totals())?;
        }
        Ok(())
    });
}

#[test]
fn influx_that_has_another_type_of_one_field_holds_the_other_fields_of_its_lines_to_the_unit() {
    const REFUSED: &str = "vfs.bytes";
    with_influx("influx-field-type", |influx| {
        let request = ureq::post(format!("{}/write", influx.url())).query("db", influx.database());
        request.send("vfs,operation=before bytes=0.5").map_err(Failure::at("a line of another type"))?;
        let totals = Scene::new(influx.url(), &[database(&influx)])?.run_but_for(Some(REFUSED), || influx.totals())?;
        let samples = totals.samples("db");
        let rejected = samples.get("rejected").copied().unwrap_or_default();
        let stored = influx.totals()?.get(REFUSED, Some(("operation", "read")));
        // Two of them in each batch.
        if stored.is_none() && rejected > 0.0 && rejected % 2.0 == 0.0 {
            return Ok(());
        }
        Err(Failure::new(format!("{REFUSED} is {stored:?} there; the ledger is {samples:?}")))
    });
}

#[test]
fn influx_by_udp_holds_the_workload_to_the_unit() {
    with_influx("influx-udp", |influx| Scene::new(&influx.udp(), &[])?.run(|| influx.totals()));
}

#[test]
fn influx_by_a_unix_socket_holds_the_workload_to_the_unit() {
    with_influx("influx-unix", |influx| Scene::new(&influx.unix(), &[database(&influx)])?.run(|| influx.totals()));
}

#[test]
fn influx_with_auth_lets_in_who_has_the_password_and_keeps_out_who_has_not() {
    let needs = agent::can_run().and_then(|()| Influx::is_installed());
    live::test("influx-auth", needs, || {
        let influx = Influx::start_with_auth()?;
        let credentials = |password: &str| {
            [database(&influx), format!("username={}", influx.user()), format!("password=\"{password}\"")]
        };
        let mut refused = Scene::new(influx.url(), &credentials("wrong"))?;
        wait::until("a word about the password", SETTLE, || {
            Ok((refused.agent.log()?.contains("401") && waiting(refused.agent.totals()?) > 0.0).then_some(()))
        })?;
        if refused.agent.log()?.contains("wrong") {
            return Err(Failure::new("the log tells the password"));
        }
        let totals = refused.end()?;
        if totals.samples("db").get("written").copied().unwrap_or_default() > 0.0 || influx.series()? > 0 {
            return Err(Failure::new("something was written with the wrong password"));
        }
        Scene::new(influx.url(), &credentials(influx.password()))?.run(|| influx.totals())
    });
}

/// Killed while events go on, and restarted.
#[test]
fn influx_killed_and_restarted_holds_every_batch_once_with_its_own_time() {
    with_influx("influx-restarted", |mut influx| {
        let spool = tempfile::tempdir().map_err(Failure::at("a folder for the spool"))?;
        let spool_option = format!("delivery.spool=\"{}\"", spool.path().join("db").display());
        let mut scene = Scene::new(influx.url(), &[database(&influx), spool_option])?;
        wait::until("a point before the outage", SETTLE, || {
            Ok((!influx.points("task", "exits")?.is_empty()).then_some(()))
        })?;
        influx.kill();
        let before = scene.agent.totals()?.batches();
        scene.target.run_to_next_stop()?;
        wait::until("ten batches that nobody took", SETTLE, || {
            let totals = scene.agent.totals()?;
            Ok((totals.batches() >= before + 10 && waiting(totals) > 0.0).then_some(()))
        })?;
        scene.target.run_to_end()?;
        influx.start_again()?;
        scene.wait_for_all(None, || influx.totals())?;
        wait::until("an empty spool", SETTLE, || Ok((waiting(scene.agent.totals()?) == 0.0).then_some(())))?;
        let log = scene.agent.log()?.to_owned();
        let totals = scene.end()?;
        let times: Vec<i64> = influx.points("task", "exits")?.into_iter().map(|(time, _)| time).collect();
        let wanted: Vec<i64> = totals.times().collect();
        if times == wanted {
            return Ok(());
        }
        let ledger = totals.samples("db");
        Err(Failure::new(format!("{times:?}, not {wanted:?}; the ledger is {ledger:?}; the log:\n{log}")))
    });
}

fn with_victoria(name: &str, body: impl FnOnce(&Victoria) -> Outcome<()>) {
    let needs = agent::can_run().and_then(|()| Victoria::is_installed());
    live::test(name, needs, || {
        let victoria = Victoria::start()?;
        body(&victoria).map_err(|failure| victoria.explain(&failure))?;
        // It takes what it cannot read, too.
        match victoria.invalid_rows()? {
            0 => Ok(()),
            rows => Err(Failure::new(format!("{rows} lines were not understood"))),
        }
    });
}

#[test]
fn victoria_metrics_by_version_2_holds_the_workload_to_the_unit() {
    with_victoria("victoria", |victoria| {
        let options = ["version=2", "org=lab", "bucket=telemetry"].map(str::to_owned);
        Scene::new(victoria.url(), &options)?.run(|| victoria.totals())
    });
}

#[test]
fn victoria_metrics_behind_vmauth_lets_in_who_shows_the_token() {
    with_victoria("victoria-token", |victoria| {
        let options = ["version=2".into(), "org=lab".into(), "bucket=telemetry".into()];
        let with = |token: &str| [options.as_slice(), &[format!("token=\"{token}\"")]].concat();
        let mut refused = Scene::new(victoria.door(), &with("wrong"))?;
        // This doorkeeper answers 400 where others answer 401, and repeats the token: nothing is lost by that.
        wait::until("a word about the token", SETTLE, || {
            let waits = waiting(refused.agent.totals()?) > 0.0;
            Ok((waits && refused.agent.log()?.contains("check username and password, or the token")).then_some(()))
        })?;
        let rejected = refused.end()?.samples("db").get("rejected").copied().unwrap_or_default();
        if rejected > 0.0 {
            return Err(Failure::new(format!("{rejected} samples are rejected for a wrong token")));
        }
        if victoria.totals()?.get("task.exits", None).is_some() {
            return Err(Failure::new("something was written with the wrong token"));
        }
        Scene::new(victoria.door(), &with(victoria.token()))?.run(|| victoria.totals())
    });
}
