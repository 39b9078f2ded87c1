//! Routing packets to connections, starting them, and the rules for strangers: Retry, limits,
//! refusal, version negotiation.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{
    ConnectionEvent, ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointConfig, EndpointEvent,
    Incoming, Transmit,
};

use crate::admission::{Admission, Network};
use crate::crypto::QUIC_V1;
use crate::qlog;
use crate::worker::RESET_INTERVAL;
use crate::{ClientTls, Connection, Error, ServerTls, TransportOptions, Worker};

/// A connection's place in its endpoint. Small and reused after the connection has drained.
pub type Handle = usize;

/// One UDP payload that arrived.
#[derive(Debug)]
pub struct Packet {
    /// When.
    pub now: Instant,
    /// From where.
    pub remote: SocketAddr,
    /// At which local address, when the socket tells.
    pub local_ip: Option<IpAddr>,
    /// Its congestion mark.
    pub ecn: Option<EcnCodepoint>,
    /// Its contents.
    pub data: BytesMut,
}

/// A packet for [`Connection::handle_event`].
pub struct Routed {
    pub(crate) event: ConnectionEvent,
    /// The packet without its contents.
    pub(crate) envelope: Packet,
}

/// What a packet meant.
pub enum Received {
    /// It belongs to this connection.
    Routed(Handle, Routed),
    /// It started a connection.
    Opened(Connection),
    /// It was answered without state, or dropped.
    Handled,
}

/// A packet that no connection sends: Retry, refusal, version negotiation, stateless reset.
#[derive(Debug)]
pub struct Response {
    /// Where it goes.
    pub transmit: Transmit,
    /// Its contents.
    pub data: Vec<u8>,
}

/// The server half of an endpoint.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Connections at one time; more are refused. Handshakes of clients that have not proven
    /// their address do not count.
    pub max_connections: usize,
    /// Connections at one time from one IPv4 address or one IPv6 network of 64 bits; more are
    /// refused.
    pub max_connections_per_address: usize,
    /// Whether every client must prove its address first (RFC 9000 §8.1.2).
    pub retry: bool,
    /// Handshakes at one time from which on clients must prove their address even without `retry`.
    pub retry_above: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: usize::MAX,
            retry: false,
            retry_above: 1_000,
        }
    }
}

/// All connections of one socket, client and server alike.
pub struct Endpoint {
    inner: quinn_proto::Endpoint,
    server: Option<Server>,
    connections: usize,
    /// Handshakes of clients among them.
    connecting: usize,
    /// Its place among several processes on one port.
    worker: Option<Worker>,
    responses: VecDeque<Response>,
    buffer: Vec<u8>,
    handshakes: Handshakes,
}

/// What a server has done with clients that begin, since it began itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Connections that were made, whatever became of them.
    pub begun: u64,
    /// Clients that were sent a Retry packet.
    pub retried: u64,
    /// Refused since `max_connections` were there.
    pub refused_full: u64,
    /// Refused since `max_connections_per_address` were there from the same network.
    pub refused_network: u64,
    /// Refused since the server goes away.
    pub refused_leaving: u64,
}

struct Server {
    config: Arc<quinn_proto::ServerConfig>,
    options: ServerOptions,
    transport: TransportOptions,
    accepting: bool,
    admission: Admission,
}

/// What became of a connection that was digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processed {
    /// It goes on.
    Kept,
    /// It has drained: its handle is free and the connection is to be dropped.
    Drained,
    /// Its handshake is complete, but others have taken the last place: it is to be closed.
    Refused,
}

/// How a client connects. Connections made with the same value share session tickets.
#[derive(Clone)]
pub struct ClientOptions {
    config: quinn_proto::ClientConfig,
    transport: TransportOptions,
}

impl ClientOptions {
    /// Checks and prepares everything, reading the files that `tls` names.
    pub fn new(tls: &ClientTls, transport: TransportOptions) -> Result<Self, Error> {
        let mut config = quinn_proto::ClientConfig::new(tls.build(&transport)?);
        config.transport_config(transport.build(None)?);
        Ok(Self { config, transport })
    }
}

impl Endpoint {
    /// An endpoint without connections. `allow_mtu_discovery` says that the socket never
    /// fragments; a `worker` shares its port and its secrets with others.
    pub fn new(allow_mtu_discovery: bool, worker: Option<Worker>) -> Self {
        let mut config = EndpointConfig::default();
        config.supported_versions(vec![QUIC_V1]);
        if let Some(worker) = worker.clone() {
            config
                .reset_key(Arc::new(worker.reset_key()))
                .min_reset_interval(RESET_INTERVAL)
                .cid_generator(move || Box::new(worker.ids()));
        }
        let config = Arc::new(config);
        Self {
            inner: quinn_proto::Endpoint::new(config, None, allow_mtu_discovery, None),
            server: None,
            connections: 0,
            connecting: 0,
            worker,
            responses: VecDeque::new(),
            buffer: Vec::new(),
            handshakes: Handshakes::default(),
        }
    }

    /// What became of clients that began.
    pub fn handshakes(&self) -> Handshakes {
        self.handshakes
    }

    /// Starts accepting connections.
    pub fn serve(
        &mut self,
        tls: &ServerTls,
        transport: TransportOptions,
        options: ServerOptions,
    ) -> Result<(), Error> {
        let tls = tls.build(self.worker.as_ref(), &transport)?;
        let mut config = quinn_proto::ServerConfig::with_crypto(tls);
        config
            .transport_config(transport.build(None)?)
            .max_incoming(MAX_PENDING_INITIALS)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER * MAX_PENDING_INITIALS as u64);
        if let Some(worker) = &self.worker {
            config.token_key(Arc::new(worker.token_key()));
        }
        let config = Arc::new(config);
        self.inner.set_server_config(Some(config.clone()));
        self.server = Some(Server {
            config,
            options,
            transport,
            accepting: true,
            admission: Admission::default(),
        });
        Ok(())
    }

    /// Uses another identity for connections that start from now on. Address validation tokens
    /// and running connections stay valid.
    pub fn reload(&mut self, tls: &ServerTls) -> Result<(), Error> {
        if let Some(server) = &mut self.server {
            let mut config = quinn_proto::ServerConfig::clone(&server.config);
            config.crypto = tls.build(self.worker.as_ref(), &server.transport)?;
            server.config = Arc::new(config);
            self.inner.set_server_config(Some(server.config.clone()));
        }
        Ok(())
    }

    /// Refuses connections that start from now on.
    pub fn stop_accepting(&mut self) {
        if let Some(server) = &mut self.server {
            server.accepting = false;
        }
    }

    /// Starts a connection. `server_name` is sent as SNI and verified.
    pub fn connect(
        &mut self,
        now: Instant,
        options: &ClientOptions,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, Error> {
        let config = qlog::client_config(&options.config, &options.transport)?;
        let (handle, connection) = self.inner.connect(now, config, remote, server_name)?;
        self.connections += 1;
        self.connecting += 1;
        Ok(Connection::new(
            handle.0,
            connection,
            &options.transport,
            None,
        ))
    }

    /// Whose packet it is when it is another worker's.
    pub fn stranger(&self, packet: &[u8]) -> Option<usize> {
        self.worker.as_ref()?.stranger(packet)
    }

    /// Takes one UDP payload.
    pub fn receive(&mut self, packet: Packet) -> Received {
        let Packet {
            now,
            remote,
            local_ip,
            ecn,
            data,
        } = packet;
        let envelope = Packet {
            data: BytesMut::new(),
            ..packet
        };
        self.buffer.clear();
        let event = self
            .inner
            .handle(now, remote, local_ip, ecn, data, &mut self.buffer);
        match event {
            None => Received::Handled,
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                Received::Routed(handle.0, Routed { event, envelope })
            }
            Some(DatagramEvent::Response(transmit)) => {
                self.respond(transmit);
                Received::Handled
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(now, incoming),
        }
    }

    fn accept(&mut self, now: Instant, incoming: Incoming) -> Received {
        self.buffer.clear();
        let Some(server) = &mut self.server else {
            self.inner.ignore(incoming);
            return Received::Handled;
        };
        let Server {
            options, admission, ..
        } = server;
        let network = Network::from(incoming.remote_address().ip());
        let refusals = if !server.accepting {
            Some(&mut self.handshakes.refused_leaving)
        } else if admission.is_full(options) {
            Some(&mut self.handshakes.refused_full)
        } else if admission.is_crowded(network, options) {
            Some(&mut self.handshakes.refused_network)
        } else {
            None
        };
        if let Some(refusals) = refusals {
            *refusals += 1;
            let transmit = self.inner.refuse(incoming, &mut self.buffer);
            self.respond(transmit);
            return Received::Handled;
        }
        let is_proven = incoming.remote_address_validated();
        if !is_proven && admission.wants_proof(options) && incoming.may_retry() {
            if let Ok(transmit) = self.inner.retry(incoming, &mut self.buffer) {
                self.respond(transmit);
                self.handshakes.retried += 1;
            }
            return Received::Handled;
        }
        let config = qlog::server_config(&server.config, &server.transport, &incoming);
        match self.inner.accept(incoming, now, &mut self.buffer, config) {
            Ok((handle, connection)) => {
                self.connections += 1;
                self.handshakes.begun += 1;
                let place = admission.enter(network, is_proven);
                Received::Opened(Connection::new(
                    handle.0,
                    connection,
                    &server.transport,
                    Some(place),
                ))
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.respond(transmit);
                }
                Received::Handled
            }
        }
    }

    fn respond(&mut self, transmit: Transmit) {
        let size = transmit.size.min(self.buffer.len());
        // Answers to strangers are best effort: a flood may not grow memory.
        if self.responses.len() < MAX_RESPONSES {
            self.responses.push_back(Response {
                data: self.buffer.get(..size).unwrap_or_default().to_vec(),
                transmit,
            });
        }
    }

    /// The next packet that belongs to no connection.
    pub fn poll_response(&mut self) -> Option<Response> {
        self.responses.pop_front()
    }

    /// Whether [`Self::poll_response`] has something.
    pub fn has_responses(&self) -> bool {
        !self.responses.is_empty()
    }

    /// Takes note of what a connection wants of its endpoint, after any call on it.
    pub fn process(&mut self, connection: &mut Connection) -> Processed {
        let is_refused = connection.take_handshake_end() && !self.end_handshake(connection);
        while let Some(event) = connection.poll_endpoint_event() {
            let drained = event.is_drained();
            let answer = self
                .inner
                .handle_event(ConnectionHandle(connection.handle()), event);
            if drained {
                self.forget(connection);
                return Processed::Drained;
            }
            if let Some(answer) = answer {
                connection.inner.handle_event(answer);
            }
        }
        if is_refused {
            self.handshakes.refused_full += 1;
            Processed::Refused
        } else {
            Processed::Kept
        }
    }

    /// Forgets a connection at once, for one whose state cannot be trusted any more.
    pub fn abandon(&mut self, connection: &mut Connection) {
        self.forget(connection);
        self.inner.handle_event(
            ConnectionHandle(connection.handle()),
            EndpointEvent::drained(),
        );
    }

    /// False: somebody else has taken its place.
    fn end_handshake(&mut self, connection: &mut Connection) -> bool {
        let went_well = !connection.is_closed();
        match (&mut self.server, connection.place()) {
            (Some(server), Some(place)) => {
                server
                    .admission
                    .end_handshake(place, went_well, &server.options)
            }
            _ => {
                self.connecting = self.connecting.saturating_sub(1);
                true
            }
        }
    }

    fn forget(&mut self, connection: &mut Connection) {
        self.connections = self.connections.saturating_sub(1);
        let in_handshake = connection.take_in_handshake();
        match (&mut self.server, connection.place().take()) {
            (Some(server), Some(place)) => server.admission.leave(place),
            _ => self.connecting = self.connecting.saturating_sub(usize::from(in_handshake)),
        }
    }

    /// Whether a handshake of a client goes on.
    pub fn is_connecting(&self) -> bool {
        self.connecting > 0
    }

    /// Connections that have not drained.
    pub fn connections(&self) -> usize {
        self.connections
    }
}

/// First packets held while a connection is being accepted. They are accepted at once here.
const MAX_PENDING_INITIALS: usize = 64;
/// Bytes of further packets held per pending connection.
const INCOMING_BUFFER: u64 = 64 * 1024;
/// Packets without a connection that wait for the socket.
const MAX_RESPONSES: usize = 256;
