//! Lines in datagrams.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::thread;

use crossbeam_channel::bounded;
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::format::Format;
use super::shared::Shared;

/// The largest datagram.
const LARGEST: usize = 65_536;

/// So much the kernel may keep; it gives less where it has a limit.
const ROOM: usize = 32 << 20;

/// So many datagrams wait to be read as lines.
const WAITING: usize = 16_384;

/// Listens for as long as the process lives. One thread does nothing but to take datagrams, since the kernel throws away
/// what it has no room for.
pub(super) fn listen(address: impl ToSocketAddrs, format: Format, shared: &Shared) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind(address)?;
    let place = socket.local_addr()?;
    set_socket_recv_buffer_size(&socket, ROOM)?;
    let (sender, datagrams) = bounded::<Vec<u8>>(WAITING);
    let take = move || {
        let mut datagram = vec![0; LARGEST];
        while let Ok(length) = socket.recv(&mut datagram) {
            if sender.send(datagram[..length].to_vec()).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("receiver".to_owned()).spawn(take)?;
    let shared = shared.clone();
    let read = move || {
        for datagram in datagrams {
            match format.read(&datagram) {
                Ok(points) => shared.stored.lock().take(points),
                Err(problem) => shared.stored.lock().complain(&problem),
            }
        }
    };
    thread::Builder::new().name("receiver".to_owned()).spawn(read)?;
    Ok(place)
}

/// How many datagrams the kernel has thrown away that were for this port of IPv4; 0 where it does not say.
pub(super) fn lost(port: u16) -> u64 {
    fs::read_to_string("/proc/self/net/udp").map_or(0, |table| dropped(&table, port))
}

fn dropped(table: &str, port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let line = table.lines().skip(1).find(|line| {
        let local = line.split_ascii_whitespace().nth(1);
        local.is_some_and(|local| local.ends_with(&port))
    });
    line.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_threw_away_is_in_its_table() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 325: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 4\n\
            \x20 777: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0000000000000000 7\n";
        assert_eq!([dropped(table, 8125), dropped(table, 68), dropped(table, 69)], [7, 4, 0]);
    }
}
