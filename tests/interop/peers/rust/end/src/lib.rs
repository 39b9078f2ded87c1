//! One end of a connection, driven by JSON lines; `../../end.py` says what the operations are.
//!
//! A program says how its library connects, listens and ends things ([`Library`], [`Session`],
//! [`Sending`], [`Receiving`]); what is done with that stands here.

use std::{collections::HashMap, fmt::Display, future::Future, sync::Arc, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{Mutex, mpsc},
    task::JoinSet,
};

pub const CLOSE_CODE: u32 = 4242;
pub const CLOSE_REASON: &str = "bye é";
pub const PROTOCOL: &str = "chat.v1";
const CHUNK: usize = 65536;

/// Why an operation has no result.
#[derive(Debug)]
pub enum Failure {
    /// The peer ended the half of a stream; None: without an application's code.
    Ended(Option<u32>),
    Other(String),
}

impl Failure {
    pub fn other(error: impl Display) -> Self {
        Self::Other(error.to_string())
    }
}

pub type Outcome<T> = Result<T, Failure>;

pub trait Sending: Send + 'static {
    fn write(&mut self, data: &[u8]) -> impl Future<Output = Outcome<()>> + Send;
    fn finish(&mut self) -> impl Future<Output = Outcome<()>> + Send;
    fn reset(&mut self, code: u32) -> Outcome<()>;
}

pub trait Receiving: Send + 'static {
    /// How many bytes were read, 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = Outcome<usize>> + Send;
    fn stop(&mut self, code: u32) -> Outcome<()>;
}

/// What the client is told of the session's end.
pub struct Closed {
    pub code: Option<u32>,
    pub reason: Option<String>,
}

pub trait Session: Send + Sync + 'static {
    type Send: Sending;
    type Receive: Receiving;
    fn protocol(&self) -> Option<String>;
    fn open(&self) -> impl Future<Output = Outcome<(Self::Send, Self::Receive)>> + Send;
    fn open_unidirectional(&self) -> impl Future<Output = Outcome<Self::Send>> + Send;
    fn accept(&self) -> impl Future<Output = Outcome<(Self::Send, Self::Receive)>> + Send;
    fn accept_unidirectional(&self) -> impl Future<Output = Outcome<Self::Receive>> + Send;
    fn send_datagram(&self, data: Vec<u8>) -> Outcome<()>;
    fn receive_datagram(&self) -> impl Future<Output = Outcome<Vec<u8>>> + Send;
    fn close(&self, code: u32, reason: &str);
    fn closed(&self) -> impl Future<Output = Outcome<Closed>> + Send;
}

pub enum Connected<S> {
    Session(S),
    Rejected { status: Option<u16> },
}

pub trait Library: Send + Sync + Sized + 'static {
    type Session: Session;
    fn connect(
        &self,
        url: &str,
        protocols: Vec<String>,
    ) -> impl Future<Output = Outcome<Connected<Self::Session>>> + Send;
    /// Serve `/lab/...` and `/close` on 127.0.0.1, hand on the sessions of the former with their
    /// paths, and return the port.
    fn listen(
        &self,
        certfile: &str,
        keyfile: &str,
        arrived: mpsc::UnboundedSender<(String, Self::Session)>,
    ) -> impl Future<Output = Outcome<u16>> + Send;
}

struct Stream<S: Session> {
    send: Option<Mutex<S::Send>>,
    receive: Option<Mutex<S::Receive>>,
}

impl<S: Session> Stream<S> {
    fn sending(&self) -> Outcome<&Mutex<S::Send>> {
        self.send
            .as_ref()
            .ok_or_else(|| Failure::other("has no sending half"))
    }

    fn receiving(&self) -> Outcome<&Mutex<S::Receive>> {
        self.receive
            .as_ref()
            .ok_or_else(|| Failure::other("has no receiving half"))
    }
}

type Arrivals<S> = (
    mpsc::UnboundedSender<S>,
    Arc<Mutex<mpsc::UnboundedReceiver<S>>>,
);

struct State<S: Session> {
    number: u64,
    sessions: HashMap<u64, Arc<S>>,
    streams: HashMap<u64, Arc<Stream<S>>>,
    arrivals: HashMap<String, Arrivals<S>>,
}

impl<S: Session> State<S> {
    fn arrivals(&mut self, path: &str) -> &Arrivals<S> {
        self.arrivals.entry(path.to_owned()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            (sender, Arc::new(Mutex::new(receiver)))
        })
    }

    fn keep_session(&mut self, session: S) -> Value {
        self.number += 1;
        let protocol = session.protocol();
        self.sessions.insert(self.number, Arc::new(session));
        json!({"session": self.number, "protocol": protocol})
    }

    fn keep_stream(&mut self, stream: Stream<S>, text: &[u8]) -> Value {
        self.number += 1;
        self.streams.insert(self.number, Arc::new(stream));
        json!({"stream": self.number, "text": String::from_utf8_lossy(text)})
    }
}

struct End<L: Library> {
    library: L,
    state: Mutex<State<L::Session>>,
}

struct Arguments(Map<String, Value>);

impl Arguments {
    fn number(&self, name: &str) -> u64 {
        self.0.get(name).and_then(Value::as_u64).unwrap_or_default()
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let values = self.0.get(name).and_then(Value::as_array);
        values
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }
}

impl<L: Library> End<L> {
    async fn session(&self, arguments: &Arguments) -> Arc<L::Session> {
        self.state.lock().await.sessions[&arguments.number("session")].clone()
    }

    async fn stream(&self, arguments: &Arguments) -> Arc<Stream<L::Session>> {
        self.state.lock().await.streams[&arguments.number("stream")].clone()
    }

    async fn listen(self: &Arc<Self>, arguments: &Arguments) -> Outcome<Value> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let files = (arguments.text("certfile"), arguments.text("keyfile"));
        let port = self.library.listen(files.0, files.1, sender).await?;
        let end = self.clone();
        tokio::spawn(async move {
            while let Some((path, session)) = receiver.recv().await {
                let _ = end.state.lock().await.arrivals(&path).0.send(session);
            }
        });
        Ok(json!({"port": port}))
    }

    async fn run(self: Arc<Self>, op: &str, arguments: Arguments) -> Outcome<Value> {
        let code = arguments.number("code") as u32;
        match op {
            "listen" => self.listen(&arguments).await,
            "connect" => {
                let protocols = arguments.texts("protocols");
                match self
                    .library
                    .connect(arguments.text("url"), protocols)
                    .await?
                {
                    Connected::Session(session) => {
                        Ok(self.state.lock().await.keep_session(session))
                    }
                    Connected::Rejected { status } => Ok(json!({"status": status})),
                }
            }
            "accept" => {
                let path = arguments.text("path");
                let arrivals = self.state.lock().await.arrivals(path).1.clone();
                let session = arrivals.lock().await.recv().await;
                let session = session.ok_or_else(|| Failure::other("no more sessions"))?;
                Ok(self.state.lock().await.keep_session(session))
            }
            "echo" => {
                echo(self.session(&arguments).await);
                Ok(json!({}))
            }
            "exchange" => {
                let session = self.session(&arguments).await;
                let (count, size) = (arguments.number("count"), arguments.number("size"));
                let equal = exchange(
                    session,
                    arguments.is("unidirectional"),
                    count,
                    size as usize,
                )
                .await?;
                Ok(json!({"equal": equal}))
            }
            "datagrams" => {
                let session = self.session(&arguments).await;
                let (count, size) = (arguments.number("count"), arguments.number("size"));
                Ok(json!({"equal": datagrams(&*session, count, size as usize).await?}))
            }
            "open" => {
                let session = self.session(&arguments).await;
                let (mut send, receive) = if arguments.is("unidirectional") {
                    (session.open_unidirectional().await?, None)
                } else {
                    let (send, receive) = session.open().await?;
                    (send, Some(Mutex::new(receive)))
                };
                send.write(b"hello").await?;
                let stream = Stream {
                    send: Some(Mutex::new(send)),
                    receive,
                };
                Ok(self.state.lock().await.keep_stream(stream, b""))
            }
            "take" => {
                let session = self.session(&arguments).await;
                let (send, mut receive) = if arguments.is("unidirectional") {
                    (None, session.accept_unidirectional().await?)
                } else {
                    let (send, receive) = session.accept().await?;
                    (Some(Mutex::new(send)), receive)
                };
                let mut text = [0; 100];
                let size = receive.read(&mut text).await?;
                let stream = Stream {
                    send,
                    receive: Some(Mutex::new(receive)),
                };
                Ok(self.state.lock().await.keep_stream(stream, &text[..size]))
            }
            "finish" => {
                let stream = self.stream(&arguments).await;
                stream.sending()?.lock().await.finish().await?;
                let text = read_all(&mut *stream.receiving()?.lock().await).await?;
                Ok(json!({"text": String::from_utf8_lossy(&text)}))
            }
            "reset" => {
                self.stream(&arguments)
                    .await
                    .sending()?
                    .lock()
                    .await
                    .reset(code)?;
                Ok(json!({}))
            }
            "stop" => {
                self.stream(&arguments)
                    .await
                    .receiving()?
                    .lock()
                    .await
                    .stop(code)?;
                Ok(json!({}))
            }
            "ended" => {
                let stream = self.stream(&arguments).await;
                match read_all(&mut *stream.receiving()?.lock().await).await {
                    Ok(_) => Ok(json!({"fin": true})),
                    Err(Failure::Ended(code)) => Ok(json!({"reset": code})),
                    Err(failure) => Err(failure),
                }
            }
            "stopped" => {
                let stream = self.stream(&arguments).await;
                loop {
                    match stream.sending()?.lock().await.write(&[0; 100]).await {
                        Ok(()) => tokio::time::sleep(Duration::from_millis(10)).await,
                        Err(Failure::Ended(code)) => return Ok(json!({"stop": code})),
                        Err(failure) => return Err(failure),
                    }
                }
            }
            "close" => {
                self.session(&arguments)
                    .await
                    .close(code, arguments.text("reason"));
                Ok(json!({}))
            }
            "closed" => {
                let closed = self.session(&arguments).await.closed().await?;
                Ok(json!({"code": closed.code, "reason": closed.reason}))
            }
            _ => Err(Failure::Other(format!("no operation {op:?}"))),
        }
    }
}

async fn read_all(receive: &mut impl Receiving) -> Outcome<Vec<u8>> {
    let mut data = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match receive.read(&mut buffer).await? {
            0 => return Ok(data),
            size => data.extend_from_slice(&buffer[..size]),
        }
    }
}

async fn send(send: &mut impl Sending, data: &[u8]) -> Outcome<()> {
    send.write(data).await?;
    send.finish().await
}

fn echo<S: Session>(session: Arc<S>) {
    let it = session.clone();
    tokio::spawn(async move {
        while let Ok((mut send, mut receive)) = it.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; CHUNK];
                loop {
                    match receive.read(&mut buffer).await? {
                        0 => return send.finish().await,
                        size => send.write(&buffer[..size]).await?,
                    }
                }
            });
        }
    });
    let it = session.clone();
    tokio::spawn(async move {
        while let Ok(mut receive) = it.accept_unidirectional().await {
            let it = it.clone();
            tokio::spawn(async move {
                let data = read_all(&mut receive).await?;
                send(&mut it.open_unidirectional().await?, &data).await
            });
        }
    });
    tokio::spawn(async move {
        while let Ok(data) = session.receive_datagram().await {
            let _ = session.send_datagram(data);
        }
    });
}

fn random_bytes(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    SystemRandom::new().fill(&mut data).expect("random bytes");
    data
}

async fn exchange<S: Session>(
    session: Arc<S>,
    unidirectional: bool,
    count: u64,
    size: usize,
) -> Outcome<usize> {
    let mut sent = Vec::new();
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let data = Arc::new(random_bytes(size));
        sent.push(data.clone());
        let it = session.clone();
        if unidirectional {
            let opener = it.clone();
            tokio::spawn(
                async move { send(&mut opener.open_unidirectional().await?, &data).await },
            );
            tasks.spawn(async move { read_all(&mut it.accept_unidirectional().await?).await });
        } else {
            tasks.spawn(async move {
                let (mut sending, mut receiving) = it.open().await?;
                let (done, echo) =
                    tokio::join!(send(&mut sending, &data), read_all(&mut receiving));
                done?;
                echo
            });
        }
    }
    let mut equal = 0;
    while let Some(echo) = tasks.join_next().await {
        let echo = echo.map_err(Failure::other)??;
        equal += usize::from(sent.iter().any(|data| **data == echo));
    }
    Ok(equal)
}

async fn datagrams(session: &impl Session, count: u64, size: usize) -> Outcome<usize> {
    let mut equal = 0;
    for _ in 0..count {
        let data = random_bytes(size);
        for _ in 0..3 {
            session.send_datagram(data.clone())?;
            let wait = tokio::time::timeout(Duration::from_secs(1), session.receive_datagram());
            if matches!(wait.await, Ok(Ok(echo)) if echo == data) {
                equal += 1;
                break;
            }
        }
    }
    Ok(equal)
}

/// Serve standard input until it ends.
pub async fn serve(library: impl Library) {
    let end = Arc::new(End {
        library,
        state: Mutex::new(State {
            number: 0,
            sessions: HashMap::new(),
            streams: HashMap::new(),
            arrivals: HashMap::new(),
        }),
    });
    let output = Arc::new(Mutex::new(tokio::io::stdout()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(Value::Object(arguments)) = serde_json::from_str(&line) else {
            panic!("not a JSON object: {line}");
        };
        let (end, output) = (end.clone(), output.clone());
        tokio::spawn(async move {
            let arguments = Arguments(arguments);
            let (id, op) = (arguments.number("id"), arguments.text("op").to_owned());
            let answer = match end.run(&op, arguments).await {
                Ok(result) => json!({"id": id, "ok": result}),
                Err(Failure::Other(error)) => json!({"id": id, "error": error}),
                Err(Failure::Ended(code)) => {
                    json!({"id": id, "error": format!("the peer ended the stream: {code:?}")})
                }
            };
            let mut output = output.lock().await;
            let _ = output.write_all(format!("{answer}\n").as_bytes()).await;
            let _ = output.flush().await;
        });
    }
}
