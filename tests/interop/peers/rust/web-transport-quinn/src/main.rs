//! The crate web-transport-quinn (drafts 02 and 07) as an end.

use std::{fs::File, io::BufReader, net::SocketAddr, sync::Arc, time::Duration};

use end::{
    CLOSE_CODE, CLOSE_REASON, Closed, Connected, Failure, Library, Outcome, PROTOCOL, Receiving,
    Sending, Session,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::mpsc;
use web_transport_quinn::{
    ALPN, ClientBuilder, ClientError, ConnectError, ReadError, RecvStream, SendStream, Server,
    SessionError, WebTransportError, WriteError, crypto, proto,
};

struct Send(SendStream);

fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::Stopped(code) => Failure::Ended(Some(code)),
        WriteError::InvalidStopped(_) => Failure::Ended(None),
        error => Failure::other(error),
    }
}

impl Sending for Send {
    async fn write(&mut self, data: &[u8]) -> Outcome<()> {
        self.0.write_all(data).await.map_err(write_failure)
    }

    async fn finish(&mut self) -> Outcome<()> {
        self.0.finish().map_err(Failure::other)
    }

    fn reset(&mut self, code: u32) -> Outcome<()> {
        self.0.reset(code).map_err(Failure::other)
    }
}

struct Receive(RecvStream);

impl Receiving for Receive {
    async fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        match self.0.read(buffer).await {
            Ok(size) => Ok(size.unwrap_or_default()),
            Err(ReadError::Reset(code)) => Err(Failure::Ended(Some(code))),
            Err(ReadError::InvalidReset(_)) => Err(Failure::Ended(None)),
            Err(error) => Err(Failure::other(error)),
        }
    }

    fn stop(&mut self, code: u32) -> Outcome<()> {
        self.0.stop(code).map_err(Failure::other)
    }
}

struct Quinn(web_transport_quinn::Session);

impl Session for Quinn {
    type Send = Send;
    type Receive = Receive;

    fn protocol(&self) -> Option<String> {
        self.0.protocol().map(str::to_owned)
    }

    async fn open(&self) -> Outcome<(Send, Receive)> {
        let (send, receive) = self.0.open_bi().await.map_err(Failure::other)?;
        Ok((Send(send), Receive(receive)))
    }

    async fn open_unidirectional(&self) -> Outcome<Send> {
        self.0.open_uni().await.map(Send).map_err(Failure::other)
    }

    async fn accept(&self) -> Outcome<(Send, Receive)> {
        let (send, receive) = self.0.accept_bi().await.map_err(Failure::other)?;
        Ok((Send(send), Receive(receive)))
    }

    async fn accept_unidirectional(&self) -> Outcome<Receive> {
        self.0
            .accept_uni()
            .await
            .map(Receive)
            .map_err(Failure::other)
    }

    fn send_datagram(&self, data: Vec<u8>) -> Outcome<()> {
        self.0.send_datagram(data.into()).map_err(Failure::other)
    }

    async fn receive_datagram(&self) -> Outcome<Vec<u8>> {
        self.0
            .read_datagram()
            .await
            .map(Into::into)
            .map_err(Failure::other)
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.close(code, reason.as_bytes());
    }

    async fn closed(&self) -> Outcome<Closed> {
        match self.0.closed().await {
            SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
                Ok(Closed {
                    code: Some(code),
                    reason: Some(reason),
                })
            }
            error => Err(Failure::other(error)),
        }
    }
}

struct WebTransportQuinn;

impl Library for WebTransportQuinn {
    type Session = Quinn;

    async fn connect(&self, url: &str, protocols: Vec<String>) -> Outcome<Connected<Quinn>> {
        let client = ClientBuilder::new()
            .dangerous()
            .with_no_certificate_verification()
            .map_err(Failure::other)?;
        let url = url::Url::parse(url).map_err(Failure::other)?;
        let request = proto::ConnectRequest::new(url).with_protocols(protocols);
        match client.connect(request).await {
            Ok(session) => Ok(Connected::Session(Quinn(session))),
            Err(ClientError::HttpError(ConnectError::ErrorStatus(status))) => {
                Ok(Connected::Rejected {
                    status: Some(status.as_u16()),
                })
            }
            Err(error) => Err(Failure::other(error)),
        }
    }

    async fn listen(
        &self,
        certfile: &str,
        keyfile: &str,
        arrived: mpsc::UnboundedSender<(String, Quinn)>,
    ) -> Outcome<u16> {
        let endpoint = endpoint(certfile, keyfile).map_err(Failure::other)?;
        let port = endpoint.local_addr().map_err(Failure::other)?.port();
        let mut server = Server::new(endpoint);
        tokio::spawn(async move {
            while let Some(request) = server.accept().await {
                let path = request.url.path().to_owned();
                if path != "/close" && !path.starts_with("/lab/") {
                    let _ = request.reject(http::StatusCode::NOT_FOUND).await;
                    continue;
                }
                let mut response = proto::ConnectResponse::OK;
                if request.protocols.iter().any(|offered| offered == PROTOCOL) {
                    response = response.with_protocol(PROTOCOL);
                }
                let Ok(session) = request.respond(response).await else {
                    continue;
                };
                if path == "/close" {
                    session.close(CLOSE_CODE, CLOSE_REASON.as_bytes());
                    // Until the client has it: a dropped session closes the connection.
                    tokio::spawn(async move {
                        session.closed().await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    });
                } else {
                    let _ = arrived.send((path, Quinn(session)));
                }
            }
        });
        Ok(port)
    }
}

fn endpoint(
    certfile: &str,
    keyfile: &str,
) -> Result<quinn::Endpoint, Box<dyn std::error::Error + std::marker::Send + Sync>> {
    let chain: Vec<_> = CertificateDer::pem_reader_iter(BufReader::new(File::open(certfile)?))
        .collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(keyfile)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(crypto::default_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    let tls: quinn::crypto::rustls::QuicServerConfig = tls.try_into()?;
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(200u32.into());
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(quinn::Endpoint::server(
        config,
        SocketAddr::from(([127, 0, 0, 1], 0)),
    )?)
}

#[tokio::main]
async fn main() {
    end::serve(WebTransportQuinn).await;
}
