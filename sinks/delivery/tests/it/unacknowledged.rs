//! A receiver that acknowledges nothing: what it may have lost is told apart from what it has.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{context, offer};
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Peer, Verdict, look_for_close};

use crate::rig::{Rig, SECOND, frame};

#[test]
fn what_was_sent_is_queued_until_it_is_known_and_never_sent_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let asks = Arc::clone(&asked);
    let mut rig = Rig::of(&DeliveryOptions::default(), false, move |_| {
        asks.fetch_add(1, Ordering::Relaxed);
        Verdict::Sent
    });
    rig.offer(frame(0..10));
    rig.delivery.work();
    assert_eq!((rig.tally().written, rig.tally().queued), (0, 10));
    assert!(rig.delivery.due().is_some_and(|due| due > rig.now()), "it is looked at again soon");
    rig.finish();
    assert_eq!((rig.tally().written, rig.tally().queued), (10, 0));

    rig.offer(frame(10..30));
    rig.delivery.work();
    rig.gone.store(true, Ordering::SeqCst);
    rig.wait(SECOND);
    rig.offer(frame(30..40));
    rig.finish();
    let tally = rig.tally();
    assert_eq!((tally.written, tally.unconfirmed, tally.queued), (20, 20, 0));
    assert_eq!(asked.load(Ordering::Relaxed), 3, "each frame once");
}

#[test]
fn what_was_sent_last_is_looked_at_before_the_end() {
    for gone in [false, true] {
        let mut rig = Rig::of(&DeliveryOptions::default(), false, |_| Verdict::Sent);
        rig.offer(frame(0..10));
        rig.delivery.work();
        rig.gone.store(gone, Ordering::SeqCst);
        rig.delivery.close();
        let tally = rig.tally();
        assert_eq!((tally.written, tally.unconfirmed), if gone { (0, 10) } else { (10, 0) });
    }
}

/// Lines over TCP, as a stranger writes it.
struct Lines {
    address: SocketAddr,
    connection: Option<TcpStream>,
    lost: bool,
}

impl Lines {
    fn drop_closed(&mut self) {
        self.lost |= self.connection.take_if(|connection| look_for_close(&*connection).is_err()).is_some();
    }
}

impl Carrier for Lines {
    fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
        self.drop_closed();
        let sent = match &mut self.connection {
            Some(connection) => connection.write_all(frame.bytes()),
            none => TcpStream::connect(self.address).and_then(|new| none.insert(new).write_all(frame.bytes())),
        };
        match sent {
            Ok(()) => Verdict::Sent,
            Err(error) => {
                self.lost |= self.connection.take().is_some();
                Verdict::Retry { after: None, problem: error.to_string() }
            }
        }
    }

    fn peer(&mut self) -> Peer {
        self.drop_closed();
        if std::mem::take(&mut self.lost) { Peer::Gone } else { Peer::Here }
    }
}

/// A receiver that is restarted with every third frame still in its socket: nothing that it never read
/// counts as written.
#[test]
fn what_a_closed_connection_took_is_not_written() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let context = context("lines");
    let carrier = Lines { address: listener.local_addr().expect("an address"), connection: None, lost: false };
    let options = DeliveryOptions { retry_max: Duration::from_millis(1), ..DeliveryOptions::default() };
    let mut delivery = Delivery::new(carrier, &options, &context).expect("a delivery");
    let mut send = |frame: Option<Frame>| {
        if let Some(frame) = frame {
            offer(&context.ledger, frame.samples());
            delivery.offer(frame);
            delivery.work();
            return;
        }
        let limit = Instant::now() + Duration::from_secs(60);
        while context.ledger.tally().queued > 0 {
            assert!(Instant::now() < limit, "{:?}", context.ledger.tally());
            delivery.work();
            std::thread::yield_now();
        }
    };
    let (mut read, mut number) = (0, 0);
    for _ in 0..5 {
        let mut client = None;
        for nth in 0..3 {
            send(Some(frame(number..number + 1)));
            number += 1;
            let reader = client.get_or_insert_with(|| BufReader::new(listener.accept().expect("a client").0));
            if nth < 2 {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                assert_eq!(line, format!("{:06}\n", number - 1));
                read += 1;
                send(None);
            }
        }
        // Its last line is unread: the connection is reset.
        drop(client);
        send(None);
    }
    let tally = context.ledger.tally();
    assert!(tally.balances());
    assert_eq!((tally.offered, tally.written, tally.unconfirmed), (15, read, 5), "{tally:?}");
}
