//! The crate wtransport (draft 02) as an end.
//!
//! It hands its user the codes of the wire, so this program maps them, as it says one must
//! (webtrans-http3-02 §4.3).

use std::net::SocketAddr;

use end::{
    CLOSE_CODE, CLOSE_REASON, Closed, Connected, Failure, Library, Outcome, Receiving, Sending,
    Session,
};
use tokio::sync::mpsc;
use wtransport::{
    ClientConfig, Connection, Endpoint, Identity, RecvStream, SendStream, ServerConfig, VarInt,
    endpoint::{IncomingSession, endpoint_side},
    error::{ConnectingError, ConnectionError, StreamReadError, StreamWriteError},
};

const FIRST: u64 = 0x52e4_a40f_a8db;
const LAST: u64 = 0x52e5_ac98_3162;

fn to_wire(code: u32) -> VarInt {
    let code = u64::from(code);
    VarInt::try_from(FIRST + code + code / 0x1e).expect("below 2^62")
}

fn from_wire(code: VarInt) -> Option<u32> {
    let code = code.into_inner();
    if !(FIRST..=LAST).contains(&code) || (code - 0x21) % 0x1f == 0 {
        return None;
    }
    u32::try_from(code - FIRST - (code - FIRST) / 0x1f).ok()
}

struct Send(SendStream);

impl Sending for Send {
    async fn write(&mut self, data: &[u8]) -> Outcome<()> {
        self.0.write_all(data).await.map_err(|error| match error {
            StreamWriteError::Stopped(code) => Failure::Ended(from_wire(code)),
            error => Failure::other(error),
        })
    }

    async fn finish(&mut self) -> Outcome<()> {
        self.0.finish().await.map_err(Failure::other)
    }

    fn reset(&mut self, code: u32) -> Outcome<()> {
        self.0.reset(to_wire(code)).map_err(Failure::other)
    }
}

struct Receive(Option<RecvStream>);

impl Receiving for Receive {
    async fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let stream = self.0.as_mut().ok_or_else(|| Failure::other("stopped"))?;
        match stream.read(buffer).await {
            Ok(size) => Ok(size.unwrap_or_default()),
            Err(StreamReadError::Reset(code)) => Err(Failure::Ended(from_wire(code))),
            Err(error) => Err(Failure::other(error)),
        }
    }

    fn stop(&mut self, code: u32) -> Outcome<()> {
        self.0
            .take()
            .ok_or_else(|| Failure::other("stopped"))?
            .stop(to_wire(code));
        Ok(())
    }
}

struct WSession(Connection);

impl Session for WSession {
    type Send = Send;
    type Receive = Receive;

    fn protocol(&self) -> Option<String> {
        None // only as a header field of the user's own
    }

    async fn open(&self) -> Outcome<(Send, Receive)> {
        let opening = self.0.open_bi().await.map_err(Failure::other)?;
        let (send, receive) = opening.await.map_err(Failure::other)?;
        Ok((Send(send), Receive(Some(receive))))
    }

    async fn open_unidirectional(&self) -> Outcome<Send> {
        let opening = self.0.open_uni().await.map_err(Failure::other)?;
        opening.await.map(Send).map_err(Failure::other)
    }

    async fn accept(&self) -> Outcome<(Send, Receive)> {
        let (send, receive) = self.0.accept_bi().await.map_err(Failure::other)?;
        Ok((Send(send), Receive(Some(receive))))
    }

    async fn accept_unidirectional(&self) -> Outcome<Receive> {
        let receive = self.0.accept_uni().await.map_err(Failure::other)?;
        Ok(Receive(Some(receive)))
    }

    fn send_datagram(&self, data: Vec<u8>) -> Outcome<()> {
        self.0.send_datagram(data).map_err(Failure::other)
    }

    async fn receive_datagram(&self) -> Outcome<Vec<u8>> {
        let datagram = self.0.receive_datagram().await.map_err(Failure::other)?;
        Ok(datagram.payload().to_vec())
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(to_wire(code), reason.as_bytes());
    }

    async fn closed(&self) -> Outcome<Closed> {
        // `Connection::closed` tells of the QUIC connection; what waits for the session is told more.
        let Err(error) = self.0.accept_uni().await else {
            return Err(Failure::other("a stream instead of the end"));
        };
        let ConnectionError::ApplicationClosed(close) = error else {
            return Err(Failure::other(error));
        };
        // From a capsule it is the session's own code; from the connection that of the wire.
        let code = from_wire(close.code()).or_else(|| close.code().into_inner().try_into().ok());
        let reason = String::from_utf8_lossy(close.reason()).into_owned();
        Ok(Closed {
            code,
            reason: Some(reason),
        })
    }
}

async fn answer(
    incoming: IncomingSession,
    arrived: mpsc::UnboundedSender<(String, WSession)>,
) -> Result<(), ConnectionError> {
    let request = incoming.await?;
    let path = request.path().to_owned();
    if path == "/close" {
        let session = request.accept().await?;
        session.close(to_wire(CLOSE_CODE), CLOSE_REASON.as_bytes());
        session.closed().await;
    } else if path.starts_with("/lab/") {
        let _ = arrived.send((path, WSession(request.accept().await?)));
    } else {
        request.not_found().await;
    }
    Ok(())
}

struct WTransport(Endpoint<endpoint_side::Client>);

impl Library for WTransport {
    type Session = WSession;

    async fn connect(&self, url: &str, _: Vec<String>) -> Outcome<Connected<WSession>> {
        match self.0.connect(url).await {
            Ok(connection) => Ok(Connected::Session(WSession(connection))),
            Err(ConnectingError::SessionRejected) => Ok(Connected::Rejected { status: None }),
            Err(error) => Err(Failure::other(error)),
        }
    }

    async fn listen(
        &self,
        certfile: &str,
        keyfile: &str,
        arrived: mpsc::UnboundedSender<(String, WSession)>,
    ) -> Outcome<u16> {
        let identity = Identity::load_pemfiles(certfile, keyfile)
            .await
            .map_err(Failure::other)?;
        let config = ServerConfig::builder()
            .with_bind_address(SocketAddr::from(([127, 0, 0, 1], 0)))
            .with_identity(identity)
            .build();
        let server = Endpoint::server(config).map_err(Failure::other)?;
        let port = server.local_addr().map_err(Failure::other)?.port();
        tokio::spawn(async move {
            loop {
                tokio::spawn(answer(server.accept().await, arrived.clone()));
            }
        });
        Ok(port)
    }
}

#[tokio::main]
async fn main() {
    let config = ClientConfig::builder()
        .with_bind_default()
        .with_no_cert_validation()
        .build();
    end::serve(WTransport(
        Endpoint::client(config).expect("a client's socket"),
    ))
    .await;
}
