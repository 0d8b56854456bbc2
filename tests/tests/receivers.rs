//! The receivers themselves: each gives back exactly what it was sent, so that a wrong total is the agent's.

use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::receivers::netdata::Netdata;
use ebpf_process_tests::receivers::statsd::Statsd;
use ebpf_process_tests::{Failure, live, wait};
use std::net::UdpSocket;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn influx_gives_back_what_it_was_sent() {
    live::test("receiver-influx", Influx::is_installed(), || {
        let influx = Influx::start()?;
        let lines =
            "file,operation=open calls=12i 1700000000000000000\nfile,operation=open calls=13i 1700000001000000000";
        let request = ureq::post(format!("{}/write", influx.url())).query("db", influx.database());
        request.send(lines).map_err(Failure::at("writing"))?;
        let calls = influx.totals()?.get("file.calls", Some(("operation", "open")));
        assert_eq!(calls, Some(13.0));
        Ok(())
    });
}

#[test]
fn statsd_adds_up_what_it_was_sent() {
    live::test("receiver-statsd", Statsd::is_installed(), || {
        let statsd = Statsd::start()?;
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(Failure::at("a socket"))?;
        let address = statsd.address();
        for count in [5, 37] {
            let line = format!("ebpf_process.file.open.calls:{count}|c");
            let sent = socket.send_to(line.as_bytes(), address.trim_start_matches("udp://"));
            sent.map_err(Failure::at("sending"))?;
        }
        wait::until("both counts", LIMIT, || {
            Ok((statsd.counters()?.get("ebpf_process.file.open.calls") == Some(&42.0)).then_some(()))
        })
    });
}

#[test]
fn netdata_holds_the_last_number_its_plugin_set() {
    const PLUGIN: &str = "#!/bin/sh
echo \"CHART test.chart '' 'A chart' 'calls/s' Family test.chart line 970 1\"
echo \"DIMENSION one one incremental 1 1\"
value=40
while sleep 1; do
    [ $value -lt 42 ] && value=$((value + 1))
    printf 'BEGIN test.chart\\nSET one = %s\\nEND\\n' $value
done
";
    live::test("receiver-netdata", Netdata::is_installed(), || {
        let netdata = Netdata::start("test.plugin", PLUGIN)?;
        let key = ("test.chart".to_owned(), "one".to_owned());
        let seen =
            wait::until("the last number", LIMIT, || Ok((netdata.totals()?.get(&key) == Some(&42.0)).then_some(())));
        seen.map_err(|failure| netdata.explain(&failure))
    });
}
