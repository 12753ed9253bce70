//! What all requests of a client share, and what those to one endpoint do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use reqwest::Url;
use tokio::sync::{Semaphore, oneshot};

use crate::account::Account;
use crate::cache::{Cache, Stored};
use crate::canonical::Key;
use crate::endpoint::SecretKey;
use crate::pace::Pace;
use crate::stats::Counters;
use crate::transcript::Transcripts;
use crate::{Endpoint, LlmError, Options, Price, StructuredOutput};

/// Those who wait for an answer that another request of this client is fetching.
pub(crate) type Flights = HashMap<Key, Vec<oneshot::Sender<Result<Stored, LlmError>>>>;

/// What all requests of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: Options,
    pub account: Arc<Account>,
    pub cache: Cache,
    pub counters: Counters,
    pub transcripts: Option<Transcripts>,
    pub flights: Mutex<Flights>,
    pub started: Instant,
    /// Why nothing more is sent: an answer that was paid for could not be kept.
    pub broken: OnceLock<LlmError>,
}

/// What all requests to one endpoint share.
#[derive(Debug)]
pub(crate) struct Server {
    pub endpoint: Endpoint,
    pub url: Url,
    pub http: reqwest::Client,
    pub key: Option<SecretKey>,
    pub price: Option<Price>,
    pub pace: Pace,
    pub permits: Semaphore,
    /// Why the endpoint answers nobody: a wrong key, an unknown model, no money left.
    pub refusal: OnceLock<LlmError>,
    /// The way of asking for JSON that `auto` has come to.
    found: AtomicU8,
}

const WAYS: [StructuredOutput; 3] =
    [StructuredOutput::JsonSchema, StructuredOutput::JsonObject, StructuredOutput::Words];

impl Server {
    /// # Errors
    /// What is wrong with the endpoint, its key, or its price where there is a budget in money.
    pub fn new(endpoint: Endpoint, options: &Options) -> Result<Server, LlmError> {
        endpoint.check()?;
        let url = endpoint.url()?;
        let key = endpoint.key()?;
        let host = url.host_str().unwrap_or_default();
        let price = options.prices.find(host, &endpoint.model).cloned();
        if options.budget.dollars.is_some() && price.is_none() {
            return Err(LlmError::PriceUnknown {
                model: endpoint.model.clone(),
                base_url: endpoint.base_url.clone(),
            });
        }
        let http = http_client(&url, options).map_err(|error| LlmError::BadEndpoint {
            field: "base_url",
            value: endpoint.base_url.clone(),
            why: format!("no client can be made for it: {}", crate::send::words(error)),
        })?;
        let now = Instant::now();
        Ok(Server {
            pace: Pace::new(options.requests_per_minute, options.tokens_per_minute, now),
            permits: Semaphore::new(options.concurrency.min(Semaphore::MAX_PERMITS)),
            refusal: OnceLock::new(),
            found: AtomicU8::new(0),
            endpoint,
            url,
            http,
            key,
            price,
        })
    }

    /// How the server is asked for JSON now.
    pub fn structured_by(&self) -> StructuredOutput {
        match self.endpoint.structured {
            StructuredOutput::Auto => {
                WAYS[usize::from(self.found.load(Ordering::Relaxed)).min(WAYS.len() - 1)]
            }
            set => set,
        }
    }

    /// The server does not take this way of asking for JSON. Whether there is another one to try.
    pub fn step_down(&self, refused: StructuredOutput) -> bool {
        if self.endpoint.structured != StructuredOutput::Auto {
            return false;
        }
        let Some(place) = WAYS[..WAYS.len() - 1].iter().position(|way| *way == refused) else { return false };
        self.found.fetch_max(place as u8 + 1, Ordering::Relaxed);
        true
    }

    /// Takes the key out of a server's words.
    pub fn redact(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }
}

fn http_client(url: &Url, options: &Options) -> reqwest::Result<reqwest::Client> {
    // Another crate of the program may have chosen a provider already: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(options.timeouts.connect)
        .pool_max_idle_per_host(options.concurrency)
        // A key shall not be sent anywhere but to the address that was given.
        .redirect(reqwest::redirect::Policy::none())
        // Repetitions are this crate's: each has to be paid for.
        .retry(reqwest::retry::never())
        .user_agent(concat!("vul2safe/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // Without TLS no certificates are needed; a small container may have none.
        builder = builder.tls_certs_only([]);
    }
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    if loopback {
        // A proxy elsewhere would look for the server on its own machine.
        builder = builder.no_proxy();
    }
    builder.build()
}
