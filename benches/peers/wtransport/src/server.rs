//! The operations of ../../server.py.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wtransport::endpoint::IncomingSession;
use wtransport::{Connection, Endpoint, Identity, RecvStream, SendStream, ServerConfig};

use crate::{CHUNK, Result, count, transport, write};

const MESSAGE: [u8; 64] = [b'm'; 64];

type Subscribers = Arc<Mutex<Vec<SendStream>>>;

pub async fn serve(port: u16, cert: &str, key: &str) -> Result<()> {
    let identity = Identity::load_pemfiles(cert, key).await?;
    let config = ServerConfig::builder()
        .with_bind_address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .with_custom_transport(identity, transport())
        .build();
    let server = Endpoint::server(config)?;
    let subscribers = Subscribers::default();
    loop {
        tokio::spawn(serve_session(server.accept().await, subscribers.clone()));
    }
}

async fn serve_session(incoming: IncomingSession, subscribers: Subscribers) -> Result<()> {
    let session = Arc::new(incoming.await?.accept().await?);
    let datagrams = Arc::new(AtomicU64::new(0));
    tokio::spawn(serve_datagrams(session.clone(), datagrams.clone()));
    loop {
        let streams = session.accept_bi().await?;
        tokio::spawn(serve_stream(streams, datagrams.clone(), subscribers.clone()));
    }
}

async fn serve_datagrams(session: Arc<Connection>, received: Arc<AtomicU64>) -> Result<()> {
    loop {
        let datagram = session.receive_datagram().await?;
        if datagram.first() == Some(&b'e') {
            session.send_datagram(datagram.payload())?;
        } else {
            received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn serve_stream(
    (mut send, mut receive): (SendStream, RecvStream),
    datagrams: Arc<AtomicU64>,
    subscribers: Subscribers,
) -> Result<()> {
    let mut head = [0; 9];
    receive.read_exact(&mut head).await?;
    let argument = u64::from_be_bytes(head[1..].try_into()?) as usize;
    match head[0] {
        b'E' => {
            let mut data = Vec::new();
            let mut buffer = vec![0; CHUNK];
            while let Some(size) = receive.read(&mut buffer).await? {
                data.extend_from_slice(&buffer[..size]);
            }
            send.write_all(&data).await?;
        }
        b'U' => send.write_all(&count(&mut receive).await?.to_be_bytes()).await?,
        b'D' => write(&mut send, argument).await?,
        b'C' => send.write_all(&datagrams.load(Ordering::Relaxed).to_be_bytes()).await?,
        b'S' => {
            send.write_all(b"+").await?;
            subscribers.lock().expect("no panic while held").push(send);
            return Ok(());
        }
        b'F' => {
            fan_out(&subscribers, argument).await?;
            send.write_all(b"+").await?;
        }
        _ => return Err("no such operation".into()),
    }
    send.finish().await?;
    Ok(())
}

async fn fan_out(subscribers: &Subscribers, rounds: usize) -> Result<()> {
    let mut streams = std::mem::take(&mut *subscribers.lock().expect("no panic while held"));
    for _ in 0..rounds {
        for stream in &mut streams {
            stream.write_all(&MESSAGE).await?;
        }
    }
    for stream in &mut streams {
        stream.finish().await?;
    }
    Ok(())
}
