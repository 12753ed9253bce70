//! The client, as plain threads see it.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::account::Account;
use crate::cache::Cache;
use crate::dialogue;
use crate::shared::{Server, Shared};
use crate::stats::{Counters, Gauge, count};
use crate::transcript::Transcripts;
use crate::{Endpoint, LlmError, Options, Request, Response, Stats};

/// A client for one endpoint. Clones, and clients made by [`Client::for_endpoint`], share its cache, budget, counts
/// and threads.
///
/// Its methods block and may be called from any number of plain threads at once.
#[derive(Clone, Debug)]
pub struct Client {
    server: Arc<Server>,
    shared: Arc<Shared>,
    runtime: Arc<OwnRuntime>,
}

impl Client {
    /// Opens the cache and reads the key; sends nothing.
    ///
    /// # Errors
    /// What is wrong with the endpoint, its key, the options, the cache's file, or that a budget in money is set for a
    /// model without a known price.
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Client, LlmError> {
        options.check()?;
        let server = Arc::new(Server::new(endpoint, &options)?);
        let transcripts = options.transcripts.clone().map(Transcripts::new).transpose()?;
        let (cache, spent) = Cache::open(options.cache.as_deref(), &options.run)?;
        let started = Instant::now();
        let shared = Shared {
            account: Arc::new(Account::new(options.budget, spent, started)),
            cache,
            counters: Counters::default(),
            transcripts,
            flights: Mutex::default(),
            started,
            broken: OnceLock::new(),
            options,
        };
        Ok(Client { server, shared: Arc::new(shared), runtime: Arc::new(OwnRuntime::new()?) })
    }

    /// A client for another model or server that shares cache, budget, counts and threads with this one; pace and
    /// concurrency are kept for each endpoint by itself.
    ///
    /// # Errors
    /// As [`Client::new`], for the endpoint.
    pub fn for_endpoint(&self, endpoint: Endpoint) -> Result<Client, LlmError> {
        let server = Arc::new(Server::new(endpoint, &self.shared.options)?);
        Ok(Client { server, shared: self.shared.clone(), runtime: self.runtime.clone() })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.server.endpoint
    }

    /// Whether a price is known for the model.
    pub fn has_price(&self) -> bool {
        self.server.price.is_some()
    }

    /// What the client and those that share with it have done and are doing.
    pub fn stats(&self) -> Stats {
        let seconds = self.shared.started.elapsed().as_secs_f64();
        self.shared.counters.snapshot(self.shared.account.spent(), seconds)
    }

    /// Waits for the answer to one request.
    ///
    /// # Errors
    /// Why there is none; [`LlmError::is_temporary`] tells whether it may come later.
    pub fn complete(&self, request: Request) -> Result<Response, LlmError> {
        let (sender, receiver) = mpsc::channel();
        self.start(0, request, sender);
        match receiver.recv() {
            Ok((_, result)) => result,
            Err(_) => Err(lost()),
        }
    }

    /// Answers all requests, as many at a time as [`Options::concurrency`] allows, and gives each result with the
    /// number of its request (from 0) as soon as it is there, in the order of their arrival. `on_result` runs on the
    /// calling thread.
    ///
    /// `requests` is taken from as room becomes free; it may be endless as long as the process can wait. When a budget
    /// is used up, the rest gets [`LlmError::BudgetExhausted`] without being sent.
    pub fn complete_all(
        &self,
        requests: impl IntoIterator<Item = Request>,
        mut on_result: impl FnMut(usize, Result<Response, LlmError>),
    ) {
        // More than are sent at a time, so that those which the cache answers do not leave the line idle.
        let window = self.shared.options.concurrency.saturating_mul(2);
        let (sender, receiver) = mpsc::channel();
        let mut requests = requests.into_iter().enumerate();
        let mut open = 0;
        loop {
            while open < window {
                let Some((index, request)) = requests.next() else { break };
                self.start(index, request, sender.clone());
                open += 1;
            }
            if open == 0 {
                return;
            }
            // Every task replies, also when it is cut off or panics, and `sender` lives: this cannot fail.
            let Ok((index, result)) = receiver.recv() else { return };
            open -= 1;
            on_result(index, result);
        }
    }

    fn start(&self, index: usize, request: Request, sender: mpsc::Sender<Numbered>) {
        let (server, shared) = (self.server.clone(), self.shared.clone());
        let mut reply = Reply { index, sender: Some(sender) };
        self.runtime.handle().spawn(async move {
            let _open = Gauge::up(&shared.counters.open);
            let result = dialogue::answer(&shared, &server, &request).await;
            match &result {
                Ok(_) => count(&shared.counters.answered),
                Err(error) => shared.counters.error(error),
            }
            reply.send(result);
        });
    }
}

type Numbered = (usize, Result<Response, LlmError>);

/// A reply that is sent in any case.
struct Reply {
    index: usize,
    sender: Option<mpsc::Sender<Numbered>>,
}

impl Reply {
    fn send(&mut self, result: Result<Response, LlmError>) {
        if let Some(sender) = self.sender.take() {
            // Nobody may be waiting any more.
            let _ = sender.send((self.index, result));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send(Err(lost()));
    }
}

fn lost() -> LlmError {
    LlmError::Stopped { detail: "its task ended without a result".into() }
}

/// The runtime, which must not be waited for on one of its own or another runtime's threads.
#[derive(Debug)]
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Result<OwnRuntime, LlmError> {
        let runtime =
            Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("llm")
                .enable_all()
                .build()
                .map_err(|error| LlmError::Stopped { detail: format!("no runtime can be made: {error}") })?;
        Ok(OwnRuntime(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        // It is only taken out when the last owner goes.
        self.0.as_ref().expect("the runtime lives as long as its owner").handle()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        if Handle::try_current().is_ok() {
            runtime.shutdown_background();
        } else {
            // Tasks are cut off where they wait; their claims in the cache are given back when it is closed.
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}
