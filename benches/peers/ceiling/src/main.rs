//! The pure-Rust ceiling: the bulk workload of the peers benchmark over quinn, no Python.
//!
//! `ceiling MEGABYTES` forks itself into a server and a client process on loopback, uploads and
//! downloads that much on one stream each, and prints one JSON object in MB/s.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CHUNK: usize = 65_536;
const ALPN: &[u8] = b"h3";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => runtime.block_on(serve()),
        Some(megabytes) => {
            let bytes = megabytes.parse::<usize>()? << 20;
            let mut server = Command::new(std::env::current_exe()?)
                .arg("serve")
                .stdout(Stdio::piped())
                .spawn()?;
            let mut line = String::new();
            let output = server.stdout.take().ok_or("no standard output")?;
            BufReader::new(output).read_line(&mut line)?;
            let outcome = runtime.block_on(measure(line.trim().parse()?, bytes));
            server.kill()?;
            server.wait()?;
            outcome
        }
        None => Err("usage: ceiling MEGABYTES".into()),
    }
}

/// The library's own defaults, so that the ceiling is the same transport without Python.
fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.stream_receive_window(VarInt::from_u32(2_500_000));
    config.receive_window(VarInt::from_u32(16 << 20));
    config.send_window(5_000_000);
    Arc::new(config)
}

fn socket() -> Result<std::net::UdpSocket> {
    Ok(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)
}

async fn serve() -> Result<()> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![ALPN.into()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket()?, runtime)?;
    println!("{}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            let mut head = [0; 9];
            receive.read_exact(&mut head).await?;
            let wanted = u64::from_be_bytes(head[1..].try_into()?);
            if head[0] == b'U' {
                let mut size = 0u64;
                while let Some(chunk) = receive.read_chunk(CHUNK, true).await? {
                    size += chunk.bytes.len() as u64;
                }
                send.write_all(&size.to_be_bytes()).await?;
            } else {
                write(&mut send, wanted as usize).await?;
            }
            send.finish()?;
        }
    }
    Ok(())
}

async fn write(send: &mut quinn::SendStream, mut left: usize) -> Result<()> {
    let data = vec![b'x'; CHUNK];
    while left > 0 {
        let size = left.min(CHUNK);
        send.write_all(&data[..size]).await?;
        left -= size;
    }
    Ok(())
}

async fn measure(server: SocketAddr, bytes: usize) -> Result<()> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.into()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket()?, runtime)?;
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(server, "localhost")?.await?;

    upload(&connection, 1 << 20).await?;
    let start = Instant::now();
    upload(&connection, bytes).await?;
    let upload = rate(bytes, start);
    let start = Instant::now();
    download(&connection, bytes).await?;
    let download = rate(bytes, start);
    println!("{{\"upload_MBs\": {upload:.1}, \"download_MBs\": {download:.1}}}");
    Ok(())
}

fn rate(bytes: usize, start: Instant) -> f64 {
    (bytes >> 20) as f64 / start.elapsed().as_secs_f64()
}

async fn upload(connection: &quinn::Connection, bytes: usize) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[b"U".as_slice(), &[0; 8]].concat()).await?;
    write(&mut send, bytes).await?;
    send.finish()?;
    let mut size = [0; 8];
    receive.read_exact(&mut size).await?;
    assert_eq!(u64::from_be_bytes(size), bytes as u64);
    Ok(())
}

async fn download(connection: &quinn::Connection, bytes: usize) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[b"D".as_slice(), &(bytes as u64).to_be_bytes()].concat()).await?;
    send.finish()?;
    let mut size = 0;
    while let Some(chunk) = receive.read_chunk(CHUNK, true).await? {
        size += chunk.bytes.len();
    }
    assert_eq!(size, bytes);
    Ok(())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate was made a moment ago by the other process; there is nothing to check.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
