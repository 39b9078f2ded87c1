//! The workloads of ../../client.py: the same steps, counts and names of figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wtransport::endpoint::endpoint_side::Client;
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};

use crate::{CHUNK, Error, Result, count, setting, transport, write};

const FAN_CLIENTS: usize = 100;

type Figures = Vec<(&'static str, f64)>;

pub struct Bench {
    endpoint: Endpoint<Client>,
    url: String,
    server: u32,
}

impl Bench {
    pub fn new(port: u16, server: u32) -> Result<Self> {
        let tls = wtransport::tls::client::build_default_tls_config(
            Arc::new(wtransport::tls::rustls::RootCertStore::empty()),
            Some(Arc::new(wtransport::tls::client::NoServerVerification::new())),
        );
        let config = ClientConfig::builder()
            .with_bind_default()
            .with_custom_tls_and_transport(tls, transport())
            .build();
        let endpoint = Endpoint::client(config)?;
        Ok(Self { endpoint, url: format!("https://127.0.0.1:{port}/bench"), server })
    }

    pub async fn run(&self, workload: &str) -> Result<Figures> {
        match workload {
            "handshake" => self.handshake().await,
            "rr" => self.rr().await,
            "rr32" => self.rr32().await,
            "upload" => self.transfer("upload_MBs", upload).await,
            "download" => self.transfer("download_MBs", download).await,
            "streams1000" => self.streams1000().await,
            "datagram_rtt" => self.datagram_rtt().await,
            "datagram_rate" => self.datagram_rate().await,
            "rr_beside_upload" => self.rr_beside_upload().await,
            "rr_beside_datagrams" => self.rr_beside_datagrams().await,
            "fan_out" => self.fan_out().await,
            "idle" => self.idle().await,
            _ => Err("no such workload".into()),
        }
    }

    async fn connect(&self) -> Result<Arc<Connection>> {
        Ok(Arc::new(self.endpoint.connect(&self.url).await?))
    }

    async fn handshake(&self) -> Result<Figures> {
        let mut samples = Vec::new();
        let start = Instant::now();
        let connections = setting("CONNECTIONS", 200);
        for _ in 0..connections {
            let begin = Instant::now();
            let session = self.connect().await?;
            samples.push(milliseconds(begin));
            session.close(0u32.into(), b"");
        }
        let rate = connections as f64 / start.elapsed().as_secs_f64();
        Ok(vec![("handshake_p50_ms", percentile(&mut samples, 0.5)), ("connections_s", rate)])
    }

    async fn rr(&self) -> Result<Figures> {
        let session = self.connect().await?;
        for _ in 0..100 {
            echo(&session, 64).await?;
        }
        let mut samples = round_trips(&session).await?;
        Ok(vec![
            ("rr_p50_ms", percentile(&mut samples, 0.5)),
            ("rr_p99_ms", percentile(&mut samples, 0.99)),
        ])
    }

    async fn rr32(&self) -> Result<Figures> {
        let session = self.connect().await?;
        echo(&session, 64).await?;
        let total = setting("RR32", 20_000);
        let done = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..32 {
            let (session, done) = (session.clone(), done.clone());
            workers.spawn(async move {
                while done.fetch_add(1, Ordering::Relaxed) < total {
                    echo(&session, 64).await?;
                }
                Ok::<(), Error>(())
            });
        }
        join(workers).await?;
        Ok(vec![("rr32_s", total as f64 / start.elapsed().as_secs_f64())])
    }

    async fn transfer(
        &self,
        figure: &'static str,
        transfer: impl AsyncFn(&Connection, usize) -> Result<()>,
    ) -> Result<Figures> {
        let session = self.connect().await?;
        transfer(&session, 1 << 20).await?;
        let start = Instant::now();
        let megabytes = setting("MB", 256);
        transfer(&session, megabytes << 20).await?;
        Ok(vec![(figure, megabytes as f64 / start.elapsed().as_secs_f64())])
    }

    async fn streams1000(&self) -> Result<Figures> {
        let session = self.connect().await?;
        echo(&session, 64).await?;
        let start = Instant::now();
        let mut uploads = JoinSet::new();
        let streams = setting("UPLOADS", 1_000);
        for _ in 0..streams {
            let session = session.clone();
            uploads.spawn(async move { upload(&session, 65_536).await });
        }
        join(uploads).await?;
        let megabytes = (streams * 65_536) as f64 / f64::from(1 << 20);
        Ok(vec![("streams1000_MBs", megabytes / start.elapsed().as_secs_f64())])
    }

    async fn datagram_rtt(&self) -> Result<Figures> {
        let session = self.connect().await?;
        let mut samples = Vec::new();
        for _ in 0..100 + setting("REQUESTS", 1_000) {
            let begin = Instant::now();
            session.send_datagram(message(b'e'))?;
            tokio::time::timeout(Duration::from_secs(5), session.receive_datagram()).await??;
            samples.push(milliseconds(begin));
        }
        let mut samples = samples.split_off(100);
        Ok(vec![
            ("datagram_p50_ms", percentile(&mut samples, 0.5)),
            ("datagram_p99_ms", percentile(&mut samples, 0.99)),
        ])
    }

    async fn datagram_rate(&self) -> Result<Figures> {
        let session = self.connect().await?;
        session.send_datagram(message(b's'))?;
        echo(&session, 64).await?;
        let (mut sent, mut refused) = (0u64, 0u64);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(setting("DATAGRAM_MS", 4_000) as u64) {
            for _ in 0..32 {
                match session.send_datagram(message(b's')) {
                    Ok(()) => sent += 1,
                    Err(_) => refused += 1,
                }
            }
            tokio::task::yield_now().await;
        }
        let elapsed = start.elapsed().as_secs_f64();
        let mut delivered = datagram_count(&session).await?;
        loop {
            // until nothing more arrives
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = datagram_count(&session).await?;
            if now == delivered {
                break;
            }
            delivered = now;
        }
        Ok(vec![
            ("datagrams_sent_s", sent as f64 / elapsed),
            ("datagrams_refused_s", refused as f64 / elapsed),
            ("datagrams_s", delivered as f64 / elapsed),
            ("datagram_loss", (1.0 - delivered as f64 / (sent + 1) as f64).max(0.0)),
        ])
    }

    async fn rr_beside_upload(&self) -> Result<Figures> {
        let session = self.connect().await?;
        echo(&session, 64).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let load = tokio::spawn({
            let (session, stop) = (session.clone(), stop.clone());
            async move {
                let (mut send, mut receive) = operation(&session, b'U', 0).await?;
                while !stop.load(Ordering::Relaxed) {
                    write(&mut send, CHUNK).await?;
                }
                send.finish().await?;
                number(&mut receive).await?;
                Ok::<(), Error>(())
            }
        });
        let mut samples = beside_load(&session).await?;
        stop.store(true, Ordering::Relaxed);
        load.await??;
        Ok(vec![
            ("rr_upload_p50_ms", percentile(&mut samples, 0.5)),
            ("rr_upload_p99_ms", percentile(&mut samples, 0.99)),
        ])
    }

    async fn rr_beside_datagrams(&self) -> Result<Figures> {
        let session = self.connect().await?;
        echo(&session, 64).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let load = tokio::spawn({
            let (session, stop) = (session.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..32 {
                        let _ = session.send_datagram(message(b's'));
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut samples = beside_load(&session).await?;
        stop.store(true, Ordering::Relaxed);
        load.await?;
        Ok(vec![
            ("rr_datagrams_p50_ms", percentile(&mut samples, 0.5)),
            ("rr_datagrams_p99_ms", percentile(&mut samples, 0.99)),
        ])
    }

    async fn fan_out(&self) -> Result<Figures> {
        let mut sessions = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..FAN_CLIENTS {
            let session = self.connect().await?;
            let (send, mut receive) = operation(&session, b'S', 0).await?;
            receive.read_exact(&mut [0; 1]).await?;
            receivers.push((send, receive));
            sessions.push(session);
        }
        let rounds = setting("FAN", 2_000);
        let start = Instant::now();
        let (mut send, _answer) = operation(&sessions[0], b'F', rounds as u64).await?;
        send.finish().await?;
        let mut readers = JoinSet::new();
        for (send, mut receive) in receivers {
            readers.spawn(async move {
                let size = count(&mut receive).await?;
                drop(send);
                expect(size, 64 * rounds as u64)
            });
        }
        join(readers).await?;
        let messages = (FAN_CLIENTS * rounds) as f64;
        Ok(vec![("fan_out_s", messages / start.elapsed().as_secs_f64())])
    }

    async fn idle(&self) -> Result<Figures> {
        let mut sessions = Vec::new();
        for _ in 0..20 {
            sessions.push(self.connect().await?);
        }
        let before = resident_kb(self.server)?;
        let idle = setting("IDLE", 500);
        for _ in 0..idle {
            sessions.push(self.connect().await?);
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // let handshake buffers go
        Ok(vec![("idle_KB", (resident_kb(self.server)? - before) / idle as f64)])
    }
}

async fn operation(
    session: &Connection,
    name: u8,
    argument: u64,
) -> Result<(SendStream, RecvStream)> {
    let (mut send, receive) = session.open_bi().await?.await?;
    let mut head = vec![name];
    head.extend_from_slice(&argument.to_be_bytes());
    send.write_all(&head).await?;
    Ok((send, receive))
}

async fn echo(session: &Connection, size: usize) -> Result<()> {
    let (mut send, mut receive) = session.open_bi().await?.await?;
    let mut request = vec![b'x'; 9 + size];
    request[..9].copy_from_slice(b"E\0\0\0\0\0\0\0\0");
    send.write_all(&request).await?;
    send.finish().await?;
    expect(count(&mut receive).await?, size as u64)
}

async fn upload(session: &Connection, size: usize) -> Result<()> {
    let (mut send, mut receive) = operation(session, b'U', 0).await?;
    write(&mut send, size).await?;
    send.finish().await?;
    expect(number(&mut receive).await?, size as u64)
}

async fn download(session: &Connection, size: usize) -> Result<()> {
    let (mut send, mut receive) = operation(session, b'D', size as u64).await?;
    send.finish().await?;
    expect(count(&mut receive).await?, size as u64)
}

async fn datagram_count(session: &Connection) -> Result<u64> {
    let (mut send, mut receive) = operation(session, b'C', 0).await?;
    send.finish().await?;
    number(&mut receive).await
}

async fn number(receive: &mut RecvStream) -> Result<u64> {
    let mut number = [0; 8];
    receive.read_exact(&mut number).await?;
    Ok(u64::from_be_bytes(number))
}

/// The times of a thousand requests, or of eight seconds of them.
async fn round_trips(session: &Connection) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut samples = Vec::new();
    let requests = setting("REQUESTS", 1_000);
    while samples.len() < requests && start.elapsed() < Duration::from_secs(8) {
        let begin = Instant::now();
        echo(session, 64).await?;
        samples.push(milliseconds(begin));
    }
    Ok(samples)
}

/// Requests while the load is at its full rate.
async fn beside_load(session: &Connection) -> Result<Vec<f64>> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    round_trips(session).await
}

fn message(kind: u8) -> [u8; 64] {
    let mut message = [b'x'; 64];
    message[0] = kind;
    message
}

fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(samples.len() as f64 * share) as usize]
}

fn expect(got: u64, wanted: u64) -> Result<()> {
    if got == wanted { Ok(()) } else { Err(format!("{got} bytes and not {wanted}").into()) }
}

async fn join(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn resident_kb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no size")?.parse()?)
}
