//! How close the client comes to the request rate that latency and concurrency allow.
//!
//! ```text
//! cargo run --release -p vul2safe-llm --example throughput [REQUESTS] [CONCURRENCY] [MILLISECONDS]
//! ```
//!
//! A scripted server on loopback answers each request after the given latency (50 ms). With 256 requests on their way
//! the ideal is 256 / 50 ms = 5,120 a second. Server and client share the machine, so the server's own ceiling is
//! measured as well: the same requests, written once and sent over bare sockets that only wait for the answer's last
//! byte. Then the client: with a cache in a file, as in use, and once more with all answers in the cache.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vul2safe_llm::scripted::{Reply, ScriptedServer};
use vul2safe_llm::{Client, Endpoint, LlmError, Options, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let requests = numbers.first().copied().unwrap_or(40_960);
    let concurrency = numbers.get(1).copied().unwrap_or(256);
    let latency = Duration::from_millis(numbers.get(2).copied().unwrap_or(50) as u64);
    let ideal = concurrency as f64 / latency.as_secs_f64();
    println!("{requests} requests, {concurrency} at once, {latency:?} latency: ideal {ideal:.0}/s");

    let server = ScriptedServer::start_forgetful(move |_| Reply::answer(ANSWER).after(latency))?;
    let seconds = bare(server.address(), requests, concurrency)?;
    report("bare sockets (the server's ceiling)", requests, seconds, ideal);

    let folder = tempfile::tempdir()?;
    let options =
        Options { concurrency, cache: Some(folder.path().join("answers.sqlite")), ..Options::default() };
    let client = Client::new(Endpoint::new(server.base_url(), "m"), options)?;
    for name in ["client, every answer paid and kept", "client, every answer from the cache"] {
        let started = Instant::now();
        let mut failed: Option<LlmError> = None;
        client.complete_all((0..requests).map(request), |_, result| failed = failed.take().or(result.err()));
        if let Some(error) = failed {
            return Err(error.into());
        }
        report(name, requests, started.elapsed().as_secs_f64(), ideal);
    }
    println!("{}", client.stats());
    Ok(())
}

/// About what a repair is long.
const ANSWER: &str = "def find(db, name):\n    \"\"\"Return the row of a customer.\"\"\"\n    \
    return db.execute(\"SELECT * FROM customers WHERE name = ?\", (name,)).fetchone()\n";

fn request(index: usize) -> Request {
    Request::user(format!("Repair this function, number {index}:\n{ANSWER}"))
}

fn report(name: &str, requests: usize, seconds: f64, ideal: f64) {
    let rate = requests as f64 / seconds;
    println!("{name:<40} {rate:>7.0}/s  {:>5.1} % of the ideal", 100.0 * rate / ideal);
}

/// Seconds that bare sockets take on one thread: requests written once, answers looked at only for their end.
fn bare(address: SocketAddr, requests: usize, concurrency: usize) -> std::io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{ANSWER:?}}}]}}");
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = format!("{head}{body}").into_bytes();
    let each = requests / concurrency;
    let started = Instant::now();
    let connections: Vec<_> = (0..concurrency)
        .map(|_| {
            let request = request.clone();
            runtime.spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let mut received = Vec::with_capacity(4096);
                for _ in 0..each {
                    stream.write_all(&request).await?;
                    received.clear();
                    // The answer ends with the braces of its usage.
                    while !received.ends_with(b"}}") {
                        if stream.read_buf(&mut received).await? == 0 {
                            return Err(std::io::Error::other("the server closed the connection"));
                        }
                    }
                }
                Ok(())
            })
        })
        .collect();
    for connection in connections {
        runtime.block_on(connection).map_err(std::io::Error::other)??;
    }
    Ok(started.elapsed().as_secs_f64())
}
