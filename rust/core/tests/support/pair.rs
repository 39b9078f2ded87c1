//! Two connections joined by a QUIC made of queues, under a virtual clock.
//!
//! Streams deliver in order and streams and datagrams in the order they were written, cut into
//! pieces of a chosen size. Nothing is lost.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use pywt_core::{Action, Config, Connection, Dir, Event, OpenError, Response, Role, Time};

use super::transport;

#[derive(Debug)]
enum Transmit {
    Data { id: u64, data: Bytes, fin: bool },
    Reset { id: u64, code: u64, final_size: u64 },
    Stop { id: u64, code: u64 },
    Datagram(Bytes),
    Close { code: u64, reason: String },
}

/// One end: a connection, its driver and an application that keeps what it is told.
pub struct End {
    pub conn: Connection,
    pub events: Vec<Event>,
    /// Payload received by stream, and whether its FIN came.
    pub received: HashMap<u64, (Vec<u8>, bool)>,
    pub closed: Option<(u64, String)>,
    /// Read payload as soon as it comes.
    pub reads: bool,
    out: VecDeque<Transmit>,
    next: [u64; 2],
    sent: HashMap<u64, u64>,
    ended: HashSet<u64>,
}

impl End {
    fn new(config: Config) -> Self {
        let bit = u64::from(config.role == Role::Server);
        let mut conn = Connection::new(config);
        let control = 2 | bit;
        conn.handle_connected(control, transport(), Time::ZERO);
        Self {
            conn,
            events: vec![],
            received: HashMap::new(),
            closed: None,
            reads: true,
            out: VecDeque::new(),
            next: [bit, 6 | bit],
            sent: HashMap::new(),
            ended: HashSet::new(),
        }
    }

    /// The next stream id of a kind, as QUIC hands them out.
    pub fn stream_id(&mut self, dir: Dir) -> u64 {
        let slot = &mut self.next[usize::from(dir == Dir::Uni)];
        *slot += 4;
        *slot - 4
    }

    pub fn open(&mut self, session: u64, dir: Dir) -> Result<u64, OpenError> {
        self.conn.check_open(session, dir)?;
        let id = self.stream_id(dir);
        let header = self.conn.open_stream(session, id, dir)?;
        self.transmit(id, header, false);
        Ok(id)
    }

    /// Writes what session credit allows; FIN only with the last byte.
    pub fn write(&mut self, id: u64, data: &[u8], fin: bool) -> usize {
        let granted = self.conn.reserve_send(id, data.len() as u64) as usize;
        let whole = granted == data.len();
        self.transmit(id, Bytes::copy_from_slice(&data[..granted]), fin && whole);
        if fin && whole {
            self.conn.stream_finished(id);
        }
        granted
    }

    pub fn send_datagram(&mut self, session: u64, data: &[u8]) {
        let prefix = self.conn.datagram_prefix(session).unwrap();
        self.out
            .push_back(Transmit::Datagram([&prefix, data].concat().into()));
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The last session's end, as (code, reason).
    pub fn session_end(&self, session: u64) -> Option<(u32, &str)> {
        self.events.iter().find_map(|event| match event {
            Event::SessionClosed {
                session: id,
                code,
                reason,
                ..
            } if *id == session => Some((*code, reason.as_str())),
            _ => None,
        })
    }

    fn transmit(&mut self, id: u64, data: Bytes, fin: bool) {
        if !self.ended.contains(&id) {
            *self.sent.entry(id).or_default() += data.len() as u64;
            if fin {
                self.ended.insert(id);
            }
            self.out.push_back(Transmit::Data { id, data, fin });
        }
    }

    fn drain(&mut self, now: Time) {
        while let Some(action) = self.conn.poll_action() {
            match action {
                Action::CloseConnection { code, reason } => {
                    self.closed.get_or_insert((code, reason.clone()));
                    self.out.push_back(Transmit::Close { code, reason });
                }
                Action::ResetStream { id, code, .. } => {
                    if self.ended.insert(id) {
                        let final_size = self.sent.get(&id).copied().unwrap_or(0);
                        self.out.push_back(Transmit::Reset {
                            id,
                            code,
                            final_size,
                        });
                    }
                }
                Action::SendStream { id, data, fin } => self.transmit(id, data, fin),
                Action::StopSending { id, code } => self.out.push_back(Transmit::Stop { id, code }),
            }
        }
        while let Some(event) = self.conn.poll_event() {
            if let Event::StreamData { stream, data, fin } = &event {
                let entry = self.received.entry(*stream).or_default();
                entry.0.extend_from_slice(data);
                entry.1 |= fin;
                if self.reads {
                    self.conn.stream_consumed(*stream, data.len() as u64, now);
                }
            } else {
                self.events.push(event);
            }
        }
    }

    fn deliver(&mut self, transmit: Transmit, chunk: usize, now: Time) {
        match transmit {
            Transmit::Data { id, mut data, fin } => {
                while data.len() > chunk {
                    let piece = data.split_to(chunk);
                    self.conn.handle_stream_data(id, piece, false, now);
                    self.drain(now);
                }
                self.conn.handle_stream_data(id, data, fin, now);
            }
            Transmit::Reset {
                id,
                code,
                final_size,
            } => {
                self.conn.handle_stream_reset(id, code, final_size, now);
            }
            Transmit::Stop { id, code } => self.conn.handle_stop_sending(id, code, now),
            Transmit::Datagram(data) => self.conn.handle_datagram(data, now),
            Transmit::Close { code, reason } => {
                self.closed.get_or_insert((code, reason.clone()));
                self.conn.handle_closed(Some(code), &reason);
            }
        }
        self.drain(now);
    }
}

pub struct Pair {
    pub client: End,
    pub server: End,
    pub now: Time,
    pub chunk: usize,
}

impl Pair {
    pub fn new(client: Config, server: Config) -> Self {
        let (client, server) = (End::new(client), End::new(server));
        Self {
            client,
            server,
            now: Time::ZERO,
            chunk: usize::MAX,
        }
    }

    /// Delivers until both ends are quiet.
    pub fn run(&mut self) {
        loop {
            self.client.drain(self.now);
            self.server.drain(self.now);
            if let Some(transmit) = self.client.out.pop_front() {
                self.server.deliver(transmit, self.chunk, self.now);
            } else if let Some(transmit) = self.server.out.pop_front() {
                self.client.deliver(transmit, self.chunk, self.now);
            } else {
                return;
            }
        }
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.conn.handle_timeout(self.now);
        self.server.conn.handle_timeout(self.now);
        self.run();
    }

    /// Asks for a session and accepts it; its id.
    pub fn establish(&mut self, request: pywt_core::Request, response: Response) -> u64 {
        let session = self.client.stream_id(Dir::Bidi);
        self.client
            .conn
            .connect(session, request, self.now)
            .unwrap();
        self.run();
        self.server
            .conn
            .accept(session, response, self.now)
            .unwrap();
        self.run();
        session
    }

    pub fn end(&mut self, role: Role) -> &mut End {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }
}
