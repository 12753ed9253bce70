//! Answers that were paid for, in SQLite, and who is fetching which.
//!
//! One thread of a client owns the connection. Commands that wait together share a transaction; an answer is given to
//! its caller only after the transaction that stores it. With the write-ahead log a killed process loses nothing that
//! was committed (a power cut may lose the last answers, never the file).
//!
//! So that two processes do not pay for the same answer at once, a key is *claimed* before its request is sent. A claim
//! names its owner, and the owner holds a lock on a file of that name as long as it lives: a claim whose file can be
//! locked belongs to the dead and is taken over.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::account::{Most, Spent};
use crate::canonical::Key;
use crate::{Finish, LlmError, Money, Usage};

/// Stands in the file's header: the file is ours.
const APPLICATION: i64 = 0x5632_5331;
/// Layout of the tables.
const LAYOUT: i64 = 1;
/// Commands that share a transaction at most.
const BATCH: usize = 256;
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(60);

const TABLES: &str = "
    CREATE TABLE answers (
        key BLOB PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL, created TEXT NOT NULL
    );
    CREATE TABLE spending (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL, model TEXT NOT NULL, confirmed INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, nanodollars INTEGER, created TEXT NOT NULL
    );
    CREATE INDEX spending_of_run ON spending (run);
    CREATE TABLE claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL);
";

/// An answer, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    pub finish: Finish,
    pub usage: Usage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    pub model: String,
}

/// What a look into the cache gives.
#[derive(Debug)]
pub(crate) enum Look {
    /// The answer.
    Hit(Box<Stored>),
    /// None is there, and it is now up to the caller to fetch and store it, or to give the claim back.
    Claimed,
    /// Another process is fetching it.
    Busy,
}

type Reply<T> = oneshot::Sender<Result<T, String>>;

enum Command {
    Look(Key, Reply<Look>),
    Store(Key, Box<Stored>, Reply<()>),
    /// Gives the claim back; what the request may have cost.
    Release(Key, Reply<()>),
    Unconfirmed(String, Most, Reply<()>),
}

/// The handle to the thread.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Cache {
    /// Opens or makes the file, and sums what the run has spent. Without a path, SQLite keeps a nameless file that
    /// goes away with the client.
    pub fn open(path: Option<&Path>, run: &str) -> Result<(Cache, Spent), LlmError> {
        let path = path.map(Path::to_path_buf).unwrap_or_default();
        let failed = |detail: String| LlmError::Cache { path: path.clone(), detail };
        let named = !path.as_os_str().is_empty();
        if let (true, Some(folder)) = (named, path.parent()) {
            std::fs::create_dir_all(folder).map_err(|error| failed(format!("its folder: {error}")))?;
        }
        let connection = connect(&path).map_err(failed)?;
        let spent = spending(&connection, run).map_err(|error| failed(error.to_string()))?;
        let owner = if named { Some(Owner::new(&path).map_err(failed)?) } else { None };
        let (commands, received) = mpsc::channel();
        let worker = Worker { connection, owner, run: run.to_owned() };
        let thread = std::thread::Builder::new()
            .name("llm-cache".into())
            .spawn(move || worker.work(&received))
            .map_err(|error| failed(format!("no thread: {error}")))?;
        Ok((Cache { path, commands: Some(commands), thread: Some(thread) }, spent))
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LlmError> {
        let (reply, answer) = oneshot::channel();
        let ended = || LlmError::Stopped { detail: "the cache's thread has ended".into() };
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands.send(command(reply)).map_err(|_| ended())?;
        let answer = answer.await.map_err(|_| ended())?;
        answer.map_err(|detail| LlmError::Cache { path: self.path.clone(), detail })
    }

    /// Looks for the answer and, where there is none, claims its key.
    pub async fn look(&self, key: Key) -> Result<Look, LlmError> {
        self.ask(|reply| Command::Look(key, reply)).await
    }

    /// Keeps an answer with what it cost; returns when it is committed.
    pub async fn store(&self, key: Key, stored: Stored) -> Result<(), LlmError> {
        self.ask(|reply| Command::Store(key, Box::new(stored), reply)).await
    }

    /// Gives a claim back.
    pub async fn release(&self, key: Key) -> Result<(), LlmError> {
        self.ask(|reply| Command::Release(key, reply)).await
    }

    /// Books a request whose answer never came whole.
    pub async fn unconfirmed(&self, model: &str, most: Most) -> Result<(), LlmError> {
        self.ask(|reply| Command::Unconfirmed(model.to_owned(), most, reply)).await
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // The thread ends when no command can come any more; what it has is committed first.
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(path: &Path) -> Result<Connection, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let mut connection = Connection::open(path).map_err(text)?;
    connection.busy_timeout(BUSY).map_err(text)?;
    let number = |connection: &Connection, name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(text)
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(text)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(text)?;
    if tables == 0 {
        transaction.execute_batch(TABLES).map_err(text)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(text)?;
        transaction.pragma_update(None, "user_version", LAYOUT).map_err(text)?;
    } else if number(&transaction, "application_id")? != APPLICATION {
        return Err("it is a SQLite file of another program".into());
    }
    let layout = number(&transaction, "user_version")?;
    if layout != LAYOUT {
        return Err(format!("its layout is {layout}; this program knows layout {LAYOUT}"));
    }
    transaction.commit().map_err(text)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
        .and_then(|()| connection.pragma_update(None, "synchronous", "normal"))
        .map_err(text)?;
    Ok(connection)
}

fn spending(connection: &Connection, run: &str) -> rusqlite::Result<Spent> {
    let mut statement = connection.prepare(
        "SELECT confirmed, count(*), sum(prompt_tokens), sum(completion_tokens), sum(coalesce(nanodollars, 0)),
         sum(nanodollars IS NULL) FROM spending WHERE run = ? GROUP BY confirmed",
    )?;
    let mut rows = statement.query([run])?;
    let mut spent = Spent::default();
    while let Some(row) = rows.next()? {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::unsigned_abs);
        let (count, prompt, completion) = (number(1)?, number(2)?, number(3)?);
        let dollars = Money::from_nanodollars(number(4)?);
        if row.get::<_, bool>(0)? {
            spent.requests = count;
            (spent.prompt_tokens, spent.completion_tokens) = (prompt, completion);
            (spent.dollars, spent.unpriced) = (dollars, number(5)?);
        } else {
            spent.unconfirmed = count;
            spent.unconfirmed_tokens = prompt.saturating_add(completion);
            spent.unconfirmed_dollars = dollars;
        }
    }
    Ok(spent)
}

/// This process as an owner of claims: a file that is locked as long as it lives.
struct Owner {
    name: String,
    folder: PathBuf,
    _lock: File,
}

impl Owner {
    fn new(cache: &Path) -> Result<Owner, String> {
        let mut folder = cache.as_os_str().to_owned();
        folder.push("-owners");
        let folder = PathBuf::from(folder);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        // The process's number, its time and a random number: no two owners share a name, also not on two machines.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        let time = jiff::Timestamp::now().as_nanosecond();
        let name = format!("{}-{time}-{random:016x}", std::process::id());
        let lock =
            OpenOptions::new().write(true).create_new(true).open(folder.join(&name)).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Owner { name, folder, _lock: lock })
    }

    /// Whether another owner's process is alive. Where that cannot be found out, it is taken to be.
    fn is_alive(&self, other: &str) -> bool {
        match OpenOptions::new().write(true).open(self.folder.join(other)) {
            Ok(file) => match file.try_lock() {
                Ok(()) => {
                    let _ = std::fs::remove_file(self.folder.join(other));
                    false
                }
                Err(_) => true,
            },
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.folder.join(&self.name));
        let _ = std::fs::remove_dir(&self.folder);
    }
}

struct Worker {
    connection: Connection,
    owner: Option<Owner>,
    run: String,
}

/// A reply that waits for its transaction.
enum Done {
    Look(Look, Reply<Look>),
    Written(Reply<()>),
}

impl Worker {
    fn work(mut self, commands: &mpsc::Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match commands.try_recv() {
                    Ok(command) => batch.push(command),
                    Err(_) => break,
                }
            }
            self.run_batch(batch);
        }
        if let Some(owner) = &self.owner {
            // Requests that were cut off leave their claims; another process would take them over anyway.
            let _ = self.connection.execute("DELETE FROM claims WHERE owner = ?", [&owner.name]);
        }
    }

    fn run_batch(&mut self, batch: Vec<Command>) {
        let mut done = Vec::with_capacity(batch.len());
        let mut failed = Vec::new();
        let mut outcome = Ok(());
        let transaction = match self.connection.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(transaction) => Some(transaction),
            Err(error) => {
                outcome = Err(error.to_string());
                None
            }
        };
        let mut alive = HashSet::new();
        for command in batch {
            let Some(transaction) = transaction.as_ref().filter(|_| outcome.is_ok()) else {
                failed.push(command.into_failure());
                continue;
            };
            match execute(transaction, self.owner.as_ref(), &self.run, &mut alive, command) {
                Ok(reply) => done.push(reply),
                Err((detail, reply)) => {
                    outcome = Err(detail);
                    failed.push(reply);
                }
            }
        }
        if let (Some(transaction), true) = (transaction, outcome.is_ok()) {
            outcome = transaction.commit().map_err(|error| error.to_string());
        }
        // A caller that is gone needs no reply.
        for reply in done {
            match (reply, &outcome) {
                (Done::Look(look, reply), Ok(())) => drop(reply.send(Ok(look))),
                (Done::Written(reply), Ok(())) => drop(reply.send(Ok(()))),
                (Done::Look(_, reply), Err(detail)) => drop(reply.send(Err(detail.clone()))),
                (Done::Written(reply), Err(detail)) => drop(reply.send(Err(detail.clone()))),
            }
        }
        for reply in failed {
            let detail = outcome.clone().err().unwrap_or_default();
            match reply {
                Failure::Look(reply) => drop(reply.send(Err(detail))),
                Failure::Written(reply) => drop(reply.send(Err(detail))),
            }
        }
    }
}

enum Failure {
    Look(Reply<Look>),
    Written(Reply<()>),
}

impl Command {
    fn into_failure(self) -> Failure {
        match self {
            Command::Look(_, reply) => Failure::Look(reply),
            Command::Store(_, _, reply) | Command::Release(_, reply) | Command::Unconfirmed(_, _, reply) => {
                Failure::Written(reply)
            }
        }
    }
}

fn execute(
    connection: &Connection,
    owner: Option<&Owner>,
    run: &str,
    alive: &mut HashSet<String>,
    command: Command,
) -> Result<Done, (String, Failure)> {
    match command {
        Command::Look(key, reply) => match look(connection, owner, alive, key) {
            Ok(look) => Ok(Done::Look(look, reply)),
            Err(detail) => Err((detail, Failure::Look(reply))),
        },
        Command::Store(key, stored, reply) => match store(connection, run, key, &stored) {
            Ok(()) => Ok(Done::Written(reply)),
            Err(detail) => Err((detail, Failure::Written(reply))),
        },
        Command::Release(key, reply) => {
            match connection
                .prepare_cached("DELETE FROM claims WHERE key = ?")
                .and_then(|mut s| s.execute([key]))
            {
                Ok(_) => Ok(Done::Written(reply)),
                Err(error) => Err((error.to_string(), Failure::Written(reply))),
            }
        }
        Command::Unconfirmed(model, most, reply) => {
            let booked = book(
                connection,
                run,
                &model,
                false,
                (most.prompt_tokens, most.completion_tokens),
                most.dollars,
            );
            match booked {
                Ok(()) => Ok(Done::Written(reply)),
                Err(error) => Err((error.to_string(), Failure::Written(reply))),
            }
        }
    }
}

fn look(
    connection: &Connection,
    owner: Option<&Owner>,
    alive: &mut HashSet<String>,
    key: Key,
) -> Result<Look, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let answer: Option<String> = connection
        .prepare_cached("SELECT answer FROM answers WHERE key = ?")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(text)?;
    if let Some(answer) = answer {
        let stored =
            serde_json::from_str(&answer).map_err(|error| format!("an answer in it is damaged: {error}"))?;
        return Ok(Look::Hit(Box::new(stored)));
    }
    // Nobody else can see a file without a name.
    let Some(owner) = owner else { return Ok(Look::Claimed) };
    let claimed: Option<String> = connection
        .prepare_cached("SELECT owner FROM claims WHERE key = ?")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(text)?;
    match claimed {
        Some(other) if other != owner.name => {
            if alive.contains(&other) || owner.is_alive(&other) {
                alive.insert(other);
                return Ok(Look::Busy);
            }
            connection.execute("DELETE FROM claims WHERE owner = ?", [&other]).map_err(text)?;
        }
        _ => {}
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO claims (key, owner) VALUES (?, ?)")
        .and_then(|mut statement| statement.execute(params![key, owner.name]))
        .map_err(text)?;
    Ok(Look::Claimed)
}

fn store(connection: &Connection, run: &str, key: Key, stored: &Stored) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    let answer = serde_json::to_string(stored).map_err(|error| error.to_string())?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO answers (key, model, answer, created) VALUES (?, ?, ?, ?)")
        .and_then(|mut statement| statement.execute(params![key, stored.model, answer, now()]))
        .map_err(text)?;
    connection
        .prepare_cached("DELETE FROM claims WHERE key = ?")
        .and_then(|mut statement| statement.execute([key]))
        .map_err(text)?;
    let usage = &stored.usage;
    book(connection, run, &stored.model, true, (usage.prompt_tokens, usage.completion_tokens), stored.cost)
        .map_err(text)
}

fn book(
    connection: &Connection,
    run: &str,
    model: &str,
    confirmed: bool,
    (prompt_tokens, completion_tokens): (u64, u64),
    cost: Option<Money>,
) -> rusqlite::Result<()> {
    // SQLite's integers are signed; no sum that was really paid comes near their end.
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO spending (run, model, confirmed, prompt_tokens, completion_tokens, nanodollars, created)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            run,
            model,
            confirmed,
            signed(prompt_tokens),
            signed(completion_tokens),
            cost.map(|cost| signed(cost.nanodollars())),
            now(),
        ])?;
    Ok(())
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
