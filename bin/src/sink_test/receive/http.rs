//! Lines in the bodies of HTTP requests.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use ebpf_process_core::testkit::conformance::Peer;
use flate2::read::MultiGzDecoder;
use httparse::{EMPTY_HEADER, Status, parse_chunk_size};

use super::format::Format;
use super::shared::Shared;
use super::tcp::accept;

/// What is answered by whoever refuses, one each time: come later, less, and never.
const REFUSED: [&str; 3] = [
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n\r\nmade up\n",
];

/// How many there are.
pub(super) const REFUSALS: u32 = 3;

const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Whoever is slow answers so late, and piece by piece.
const PAUSE: Duration = Duration::from_millis(100);

/// A request's line and headers may have so many bytes together.
const HEAD_LIMIT: usize = 32 * 1024;

/// And headers.
const MOST_HEADERS: usize = 128;

/// A body may have so many bytes, also once it is unpacked.
const BODY_LIMIT: u64 = 64 << 20;

/// Listens for as long as the process lives.
pub(super) fn listen(address: impl ToSocketAddrs, format: Format, shared: &Shared) -> io::Result<SocketAddr> {
    let shared = shared.clone();
    accept(address, move |stream| serve(stream, format, &shared))
}

/// What a request's head says of its body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    method: String,
    length: u64,
    is_chunked: bool,
    is_packed: bool,
    /// The sender waits to be told to send it.
    waits: bool,
}

/// Answers the requests of a connection until it ends. What is no request ends it.
fn serve(mut stream: TcpStream, format: Format, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(head) = head(&mut reader)? {
        if head.waits {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = body(&mut reader, &head)?;
        if !matches!(&*head.method, "POST" | "PUT" | "PATCH") {
            // Whoever asks whether somebody is there is told so.
            stream.write_all(TAKEN.as_bytes())?;
            continue;
        }
        let manner = shared.steering.ask();
        match manner {
            Peer::Away => return Ok(()),
            Peer::Refusing => {
                stream.write_all(shared.refusal(&REFUSED).as_bytes())?;
                continue;
            }
            _ => {}
        }
        let outcome = body.and_then(|body| format.read(&body)).map(|points| shared.stored.lock().take(points));
        let reply = match outcome {
            Ok(()) => TAKEN.to_owned(),
            Err(problem) => {
                shared.stored.lock().complain(&problem);
                format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{problem}", problem.len())
            }
        };
        let pieces = if manner == Peer::Slow { 8 } else { reply.len() };
        for piece in reply.as_bytes().chunks(pieces) {
            if manner == Peer::Slow {
                thread::park_timeout(PAUSE);
            }
            stream.write_all(piece)?;
        }
    }
    Ok(())
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// The head of the next request; `None` where the connection has ended before it.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut text = Vec::new();
    loop {
        let line = text.len();
        let length = reader.by_ref().take((HEAD_LIMIT - line) as u64).read_until(b'\n', &mut text)?;
        if length == 0 {
            return if text.is_empty() { Ok(None) } else { Err(wrong("half a head, or one that is too long")) };
        }
        if matches!(&text[line..], b"\n" | b"\r\n") && line > 0 {
            break;
        }
    }
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    if !matches!(parsed.parse(&text), Ok(Status::Complete(_))) {
        return Err(wrong("no HTTP request"));
    }
    let mut head = Head { method: parsed.method.unwrap_or_default().to_owned(), ..Head::default() };
    for header in parsed.headers {
        let value = String::from_utf8_lossy(header.value).trim().to_ascii_lowercase();
        match &*header.name.to_ascii_lowercase() {
            "content-length" => head.length = value.parse().map_err(|_| wrong("no length"))?,
            "transfer-encoding" => head.is_chunked = value == "chunked",
            "content-encoding" => head.is_packed = value == "gzip",
            "expect" => head.waits = value == "100-continue",
            _ => {}
        }
    }
    Ok(Some(head))
}

/// The body, which is read whatever becomes of it. The inner error is what is wrong with what it holds.
fn body(reader: &mut impl BufRead, head: &Head) -> io::Result<Result<Vec<u8>, String>> {
    let mut body = Vec::new();
    if head.is_chunked {
        loop {
            let length = chunk_size(reader)?;
            if body.len() as u64 + length > BODY_LIMIT {
                return Err(wrong("a body that is too long"));
            }
            if reader.by_ref().take(length).read_to_end(&mut body)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Behind each chunk is a line end. There are no trailers.
            reader.read_until(b'\n', &mut Vec::new())?;
            if length == 0 {
                break;
            }
        }
    } else if head.length > BODY_LIMIT {
        return Err(wrong("a body that is too long"));
    } else if reader.by_ref().take(head.length).read_to_end(&mut body)? as u64 != head.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !head.is_packed {
        return Ok(Ok(body));
    }
    let mut plain = Vec::new();
    Ok(match MultiGzDecoder::new(&*body).take(BODY_LIMIT).read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(error) => Err(format!("no gzip: {error}")),
    })
}

fn chunk_size(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut line = Vec::new();
    reader.by_ref().take(64).read_until(b'\n', &mut line)?;
    match parse_chunk_size(&line) {
        Ok(Status::Complete((_, length))) => Ok(length),
        _ => Err(wrong("no length of a chunk")),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    type Request = (Head, Result<Vec<u8>, String>);

    fn read(request: &[u8]) -> io::Result<Vec<Request>> {
        let (mut reader, mut all) = (request, Vec::new());
        while let Some(head) = head(&mut reader)? {
            let body = body(&mut reader, &head)?;
            all.push((head, body));
        }
        Ok(all)
    }

    #[test]
    fn bodies_come_with_a_length_in_chunks_and_packed() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"packed").and_then(|()| packed.try_finish()).expect("gzip");
        let packed = packed.finish().expect("gzip");
        let requests = [
            b"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nplain".to_vec(),
            b"PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nchu\r\nA;x=y\r\nnks in all\r\n0\r\n\r\n"
                .to_vec(),
            format!(
                "POST / HTTP/1.1\r\ncontent-encoding: gzip\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                packed.len()
            )
            .into_bytes(),
            packed,
            b"GET /ping HTTP/1.1\r\n\r\n".to_vec(),
        ];
        let all = read(&requests.concat()).expect("requests");
        let bodies: Vec<_> = all.iter().map(|(head, body)| (&*head.method, body.clone().expect("a body"))).collect();
        let body = |text: &str| text.as_bytes().to_vec();
        let expected =
            [("POST", body("plain")), ("PUT", body("chunks in all")), ("POST", body("packed")), ("GET", body(""))];
        assert_eq!(bodies, expected);
        assert_eq!(all.iter().map(|(head, _)| head.waits).collect::<Vec<_>>(), [false, false, true, false]);
    }

    #[test]
    fn what_is_no_request_is_an_error_and_takes_no_memory() {
        let long = [b"POST / HTTP/1.1\r\nX: ", &*b"x".repeat(HEAD_LIMIT)].concat();
        for wrong in [
            &b"\0\0\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nfour",
            b"POST / HTTP/1.1\r\nContent-Length: 5",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nwhat\r\n",
            &long,
        ] {
            assert!(read(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let (_, body) = read(b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nfour")
            .expect("a request")
            .remove(0);
        assert!(body.expect_err("it is not packed").starts_with("no gzip"));
    }
}
