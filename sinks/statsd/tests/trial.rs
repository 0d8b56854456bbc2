//! What a trial of the sink says of receivers that are there, and of those that are not.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use ebpf_process_core::{Finding, Options, Severity, SinkPlugin as _, TrialContext};
use ebpf_process_sink_statsd::PLUGIN;

fn try_out(address: &str) -> Vec<Finding> {
    let options = Options::from_value(BTreeMap::from([("address", address)]));
    let context = TrialContext::new("lan", "host", Duration::from_secs(30));
    PLUGIN.try_out(&options, &context)
}

#[test]
fn a_receiver_that_is_there_gets_no_number_and_one_that_is_not_is_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gram = UnixDatagram::bind(path("gram")).expect("a path");
    let unix = UnixListener::bind(path("unix")).expect("a path");
    let addresses = [
        format!("udp://{}", udp.local_addr().expect("an address")),
        format!("tcp://{}", tcp.local_addr().expect("an address")),
        format!("unixgram://{}", path("gram").display()),
        format!("unix://{}", path("unix").display()),
    ];
    for address in &addresses {
        let findings = try_out(address);
        assert!(matches!(&findings[..], [Finding { severity: Severity::Fine, .. }]), "{findings:?}");
        assert!(findings[0].what.contains(address), "{findings:?}");
    }
    let mut buffer = [0; 16];
    assert_eq!(udp.recv(&mut buffer).expect("an empty datagram"), 0);
    gram.set_nonblocking(true).expect("a socket");
    assert_eq!(gram.recv(&mut buffer).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    let (mut client, _) = unix.accept().expect("a client");
    assert_eq!(std::io::Read::read(&mut client, &mut buffer).expect("the end"), 0);

    drop((udp, tcp, gram, unix));
    for address in &addresses {
        let findings = try_out(address);
        assert!(matches!(&findings[..], [Finding { severity: Severity::Warning, .. }]), "{findings:?}");
        assert!(findings[0].what.contains("nobody listens") && findings[0].way_out.is_some(), "{findings:?}");
    }
    let findings = try_out("udp://no-such-host.invalid:8125");
    assert!(findings[0].severity == Severity::Warning && findings[0].what.contains("cannot resolve"), "{findings:?}");
    assert_eq!(try_out("stdout"), []);
}
