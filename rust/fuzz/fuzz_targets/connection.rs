//! `core::Connection` in both roles and every dialect, under any order of input, verbs and time:
//! nothing panics, every count stays within its limit, a session ends once and is silent
//! afterwards, and the end of the connection leaves nothing.

#![no_main]

use std::collections::HashSet;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pywt_core::{Config, Dir, Event, FlowControl, Response, Role};
use pywt_fuzz::piece::{bytes_of, session_of, settings_of, stream_of, Piece};
use pywt_fuzz::support::{control_stream, request, Bench, CLIENT_CONTROL, SERVER_CONTROL};

#[derive(Arbitrary, Debug)]
struct Run {
    server: bool,
    strict: bool,
    flow: bool,
    /// The dialects of which the peer's SETTINGS hold the settings, as bits; none: it is silent.
    greeting: u8,
    inputs: Vec<Input>,
}

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(u8, Vec<Piece>, bool),
    Count(u8, u16, bool),
    Reset(u8, u64, u64),
    Stop(u8, u64),
    Datagram(Vec<u8>),
    Time(u16),
    Verb(Verb, u8),
    Lost,
}

#[derive(Arbitrary, Debug)]
enum Verb {
    Connect,
    Accept,
    AcceptWith(String),
    Reject(u16),
    Close(u32, String),
    Drain,
    Goaway,
    Open(bool, u8),
    Reserve(u16),
    Release(u16),
    Consumed(u16),
    Finished,
    ResetStream(u32),
    StopStream(u32),
    Gone,
}

fn config(run: &Run) -> Config {
    let mut config = if run.server {
        Config::server()
    } else {
        Config::client()
    };
    config.strict = run.strict;
    config.limits.max_early_streams = 3;
    config.limits.max_early_stream_bytes = 50;
    config.limits.max_early_datagrams = 2;
    config.limits.max_sessions = 3;
    config.limits.max_requests = 3;
    if run.flow {
        config.flow_control = FlowControl {
            initial_max_data: 64,
            initial_max_streams_bidi: 4,
            initial_max_streams_uni: 4,
            max_data_window: 128,
            max_streams_window: 8,
        };
    }
    config
}

fn apply(bench: &mut Bench, input: Input) {
    let now = bench.now;
    match input {
        Input::Bytes(stream, pieces, fin) => {
            bench.recv_with(stream_of(stream), &bytes_of(&pieces), fin);
        }
        Input::Count(stream, len, fin) => {
            let (stream, len) = (stream_of(stream), u64::from(len));
            bench.conn.handle_stream_bytes(stream, len, fin, now);
        }
        Input::Reset(stream, code, size) => {
            let stream = stream_of(stream);
            bench
                .conn
                .handle_stream_reset(stream, code >> 2, size >> 2, now);
        }
        Input::Stop(stream, code) => bench.stop(stream_of(stream), code >> 2),
        Input::Datagram(bytes) => bench.datagram(&bytes),
        Input::Time(millis) => bench.advance(Duration::from_millis(millis.into())),
        Input::Verb(verb, id) => say(bench, verb, stream_of(id)),
        Input::Lost => bench.conn.handle_closed(None, "lost"),
    }
    bench.drain();
}

fn say(bench: &mut Bench, verb: Verb, id: u64) {
    let (now, conn) = (bench.now, &mut bench.conn);
    match verb {
        Verb::Connect => drop(conn.connect(id, request(), now)),
        Verb::Accept => drop(conn.accept(id, Response::default(), now)),
        Verb::AcceptWith(protocol) => {
            let response = Response {
                protocol: Some(protocol),
                ..Response::default()
            };
            drop(conn.accept(id, response, now));
        }
        Verb::Reject(status) => drop(conn.reject(id, status, &[], now)),
        Verb::Close(code, reason) => drop(conn.close_session(id, code, &reason, now)),
        Verb::Drain => drop(conn.drain_session(id)),
        Verb::Goaway => drop(conn.goaway()),
        Verb::Open(bidi, session) => {
            let dir = if bidi { Dir::Bidi } else { Dir::Uni };
            drop(conn.open_stream(session_of(session), id, dir));
        }
        Verb::Reserve(want) => drop(conn.reserve_send(id, want.into())),
        Verb::Release(unused) => conn.release_send(id, unused.into()),
        Verb::Consumed(len) => conn.stream_consumed(id, len.into(), now),
        Verb::Finished => conn.stream_finished(id),
        Verb::ResetStream(code) => conn.reset_stream(id, code),
        Verb::StopStream(code) => conn.stop_stream(id, code),
        Verb::Gone => conn.stream_gone(id),
    }
}

/// What holds after every input, for the events since the last one.
fn check(bench: &mut Bench, config: &Config, over: &mut HashSet<u64>) {
    let limits = &config.limits;
    let stats = bench.conn.stats();
    assert!(stats.early_streams <= limits.max_early_streams);
    assert!(stats.early_stream_bytes <= limits.max_early_stream_bytes);
    assert!(stats.early_datagrams <= limits.max_early_datagrams);
    assert!(stats.sessions as u64 <= limits.max_sessions);
    for event in bench.take_events() {
        match event {
            Event::SessionClosed { session, .. } | Event::SessionRejected { session, .. } => {
                assert!(over.insert(session), "a second end of session {session}");
            }
            // This peer may use a stream id twice; a request starts its session anew.
            Event::SessionRequested { session, .. } => drop(over.remove(&session)),
            Event::SessionEstablished { session, .. }
            | Event::SessionDraining { session }
            | Event::StreamOpened { session, .. }
            | Event::DatagramReceived { session, .. } => {
                assert!(!over.contains(&session), "event after the end");
            }
            _ => {}
        }
    }
    bench.actions.clear();
    if bench.conn.is_closed() {
        assert_eq!((stats.sessions, stats.streams), (0, 0));
        assert_eq!((stats.early_streams, stats.early_datagrams), (0, 0));
        assert_eq!(bench.conn.poll_timeout(), None);
    }
}

fuzz_target!(|run: Run| {
    let config = config(&run);
    let mut bench = Bench::new(config.clone());
    let mut over = HashSet::new();
    if run.greeting != 0 {
        let control = if run.server {
            CLIENT_CONTROL
        } else {
            SERVER_CONTROL
        };
        let settings = settings_of(run.greeting, 20, run.greeting & 16 != 0);
        bench.recv(control, &control_stream(&settings));
        match config.role {
            Role::Server => bench.request_session(0),
            Role::Client => drop(bench.conn.connect(0, request(), bench.now)),
        }
    }
    for input in run.inputs {
        // A client asks on a new stream each time; the bench's peer may use an id twice.
        if let Input::Verb(Verb::Connect, id) = &input {
            if over.contains(&stream_of(*id)) {
                continue;
            }
        }
        apply(&mut bench, input);
        check(&mut bench, &config, &mut over);
    }
    bench.conn.handle_closed(None, "over");
    bench.drain();
    check(&mut bench, &config, &mut over);
});
