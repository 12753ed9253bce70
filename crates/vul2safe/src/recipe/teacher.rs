//! `[teacher]`: language models in the place of the offline teacher.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vul2safe_llm::{Budget, Client, Endpoint, Options, PriceTable, Timeouts};
use vul2safe_repair::{LanguageTeacher, LanguageTeacherConfig, prompt_set};

use crate::failure::{Failure, Result};

/// The models that analyse, repair, criticise and judge, and how they are asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// Analyses, repairs, revises, writes implicit prompts.
    pub model: Endpoint,
    /// Tries to break repairs; absent: the teacher's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<Endpoint>,
    /// Votes on repairs; absent: the teacher's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Endpoint>,
    /// How many proposals, judges and prompts, and how they are sampled.
    #[serde(default)]
    pub asking: LanguageTeacherConfig,
    /// Folder with prompts that go before the embedded ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// The file of paid answers; absent: in the run folder, or beside the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// What does not change an answer. It is not part of the configuration that a run folder is bound to, so that a run
    /// can go on with a larger budget or at another pace.
    #[serde(default, skip_serializing)]
    pub limits: TeacherLimits,
}

/// Pace, patience and money.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherLimits {
    /// Requests on their way at a time, for each endpoint.
    pub concurrency: usize,
    /// Requests a minute, for each endpoint.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, for each endpoint.
    pub tokens_per_minute: Option<u64>,
    /// Seconds that one attempt may take.
    pub attempt_seconds: u64,
    /// Seconds that a request with all its repetitions may take.
    pub deadline_seconds: u64,
    /// What may be spent.
    pub budget: Budget,
    /// Prices that go before the embedded ones, a TOML file.
    pub prices: Option<PathBuf>,
}

impl Default for TeacherLimits {
    fn default() -> Self {
        let (options, timeouts) = (Options::default(), Timeouts::default());
        TeacherLimits {
            concurrency: options.concurrency,
            requests_per_minute: None,
            tokens_per_minute: None,
            attempt_seconds: timeouts.attempt.as_secs(),
            deadline_seconds: timeouts.deadline.as_secs(),
            budget: Budget::default(),
            prices: None,
        }
    }
}

impl TeacherConfig {
    /// Whether the endpoints can be used, without reading a key or sending anything.
    ///
    /// # Errors
    /// The first setting that cannot.
    pub fn check(&self) -> Result<()> {
        let endpoints =
            [("model", Some(&self.model)), ("critic", self.critic.as_ref()), ("judge", self.judge.as_ref())];
        for (role, endpoint) in endpoints {
            if let Some(endpoint) = endpoint {
                endpoint.check().map_err(|error| Failure::from(error).at(format!("[teacher.{role}]")))?;
            }
        }
        if self.asking.proposals == 0 {
            return Err(Failure::user(
                "`teacher.asking.proposals = 0`: records without a fix would never get one",
            ));
        }
        Ok(())
    }

    /// The teacher, with its paid answers in `cache` unless the recipe names another file, and with its dialogues in
    /// `transcripts`. Nothing is sent yet.
    ///
    /// # Errors
    /// An endpoint, a key, a prompt, a price table or a cache that cannot be used.
    pub fn open(&self, cache: &Path, transcripts: &Path) -> Result<(LanguageTeacher, Client)> {
        let limits = &self.limits;
        let prices = match &limits.prices {
            Some(path) => PriceTable::read(path)?,
            None => PriceTable::default(),
        };
        let options = Options {
            concurrency: limits.concurrency,
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            timeouts: Timeouts {
                attempt: Duration::from_secs(limits.attempt_seconds),
                deadline: Duration::from_secs(limits.deadline_seconds),
                ..Timeouts::default()
            },
            budget: limits.budget,
            prices,
            cache: Some(self.cache.clone().unwrap_or_else(|| cache.to_path_buf())),
            transcripts: Some(transcripts.to_path_buf()),
            ..Options::default()
        };
        let prompts = prompt_set(self.prompts.as_deref())?;
        let client = Client::new(self.model.clone(), options)?;
        let role = |endpoint: &Option<Endpoint>| match endpoint {
            Some(endpoint) => client.for_endpoint(endpoint.clone()),
            None => Ok(client.clone()),
        };
        let (critic, judge) = (role(&self.critic)?, role(&self.judge)?);
        let teacher = LanguageTeacher::new(client.clone(), critic, judge, prompts, self.asking.clone());
        Ok((teacher, client))
    }
}
