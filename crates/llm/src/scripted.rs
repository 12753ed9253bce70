//! A chat completion server on a loopback socket whose answers and faults are scripted: for tests and benchmarks.
//!
//! It speaks just enough HTTP/1.1 for one client that keeps its connections, over real TCP, so that faults of the
//! connection itself can be played: silence, a close in the middle of an answer, a drip of bytes.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use vul2safe_llm::scripted::{Reply, ScriptedServer};
//! use vul2safe_llm::{Client, Endpoint, Options, Request};
//!
//! let server = ScriptedServer::start(|call| Reply::answer(format!("number {}", call.number)))?;
//! let client = Client::new(Endpoint::new(server.base_url(), "scripted"), Options::default())?;
//! assert_eq!(client.complete(Request::user("Which?"))?.text, "number 0");
//! assert_eq!(client.complete(Request::user("Which?"))?.text, "number 0", "nothing is paid twice");
//! assert_eq!(server.calls().len(), 1);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// One request, as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// How many came before it.
    pub number: usize,
    /// Its first line and headers.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Call {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The content of its last message.
    pub fn last_message(&self) -> String {
        let body = self.json();
        let messages = body["messages"].as_array().map_or(&[] as &[Value], Vec::as_slice);
        messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
    }

    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers beside `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long the server thinks.
    pub delay: Duration,
    /// What goes wrong with the connection.
    pub fault: Fault,
}

/// What goes wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The server never answers.
    Silence,
    /// It sends half of the body and then nothing.
    Stall,
    /// It closes the connection after half of the body.
    Close,
    /// It closes the connection without an answer.
    Hang,
    /// It sends this many bytes of the body at a time, with this pause between.
    Drip(usize, Duration),
}

impl Reply {
    /// An answer that ends by itself, with plausible token counts.
    pub fn answer(text: impl Into<String>) -> Reply {
        Reply::finished(text, "stop")
    }

    /// An answer that ends for a reason.
    pub fn finished(text: impl Into<String>, reason: &str) -> Reply {
        let text = text.into();
        let tokens = text.len().div_ceil(4);
        Reply::json(
            200,
            &json!({
                "id": "scripted",
                "object": "chat.completion",
                "model": "scripted-1",
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": text },
                    "finish_reason": reason,
                }],
                "usage": { "prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens },
            }),
        )
    }

    /// An error in OpenAI's form.
    pub fn error(status: u16, message: &str) -> Reply {
        Reply::json(status, &json!({ "error": { "message": message, "type": "scripted" } }))
    }

    /// Any JSON.
    pub fn json(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
            delay: Duration::ZERO,
            fault: Fault::None,
        }
    }

    /// With a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After a time.
    pub fn after(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    /// With a fault.
    pub fn with(mut self, fault: Fault) -> Reply {
        self.fault = fault;
        self
    }
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

/// A running server; it stops when it is dropped.
pub struct ScriptedServer {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    script: Box<Script>,
    seen: Mutex<Seen>,
    keep_calls: bool,
}

#[derive(Default)]
struct Seen {
    count: usize,
    calls: Vec<Call>,
}

impl ScriptedServer {
    /// Starts on a free port of 127.0.0.1 and remembers all calls.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> io::Result<ScriptedServer> {
        Self::start_with(script, true)
    }

    /// The same without remembering calls, for long benchmarks.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start_forgetful(
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> io::Result<ScriptedServer> {
        Self::start_with(script, false)
    }

    fn start_with(
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
        keep_calls: bool,
    ) -> io::Result<ScriptedServer> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("scripted").enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { script: Box::new(script), seen: Mutex::default(), keep_calls });
        let accepting = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = accepting.clone();
                tokio::spawn(async move {
                    // A client that goes away is no trouble of the server's.
                    let _ = serve(stream, &state).await;
                });
            }
        });
        Ok(ScriptedServer { address, state, runtime: Some(runtime) })
    }

    /// What an endpoint's `base_url` has to be.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All calls so far, in the order of their arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).calls.clone()
    }

    /// How many calls there were.
    pub fn call_count(&self) -> usize {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection, request after request.
async fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(4096);
    loop {
        let Some((head, body)) = receive(&mut stream, &mut buffer).await? else { return Ok(()) };
        let call = {
            let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let call = Call { number: seen.count, head, body };
            seen.count += 1;
            if state.keep_calls {
                seen.calls.push(call.clone());
            }
            call
        };
        let reply = (state.script)(&call);
        if !reply.delay.is_zero() {
            tokio::time::sleep(reply.delay).await;
        }
        if !answer(&mut stream, &reply).await? {
            return Ok(());
        }
    }
}

/// The next request; nothing when the client has closed the connection.
async fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(String, Vec<u8>)>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Ok(Some((head, body)))
}

/// Sends the reply; whether the connection stays.
async fn answer(stream: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
    let mut bytes = format!("HTTP/1.1 {} Scripted\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    match reply.fault {
        Fault::None => {
            bytes.extend_from_slice(&reply.body);
            stream.write_all(&bytes).await?;
            return Ok(true);
        }
        Fault::Silence => std::future::pending().await,
        Fault::Hang => {}
        Fault::Stall | Fault::Close => {
            bytes.extend_from_slice(&reply.body[..reply.body.len() / 2]);
            stream.write_all(&bytes).await?;
            if reply.fault == Fault::Stall {
                std::future::pending().await
            }
        }
        Fault::Drip(piece, pause) => {
            stream.write_all(&bytes).await?;
            for piece in reply.body.chunks(piece.max(1)) {
                stream.write_all(piece).await?;
                tokio::time::sleep(pause).await;
            }
            return Ok(true);
        }
    }
    stream.shutdown().await?;
    Ok(false)
}
