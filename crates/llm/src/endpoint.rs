//! One model at one server.

use std::fmt;

use reqwest::Url;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::LlmError;

/// Fields of a request's body that belong to the client.
const OWN_FIELDS: [&str; 11] = [
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "n",
    "stream",
    "response_format",
];

/// One model at one server, as a recipe names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address up to and without `/chat/completions`; mostly ends with `/v1`. A query (`?api-version=…`) is kept.
    pub base_url: String,
    /// The model's name, as the server knows it.
    pub model: String,
    /// Name of the environment variable that holds the key; none for a server that wants none.
    #[serde(default)]
    pub key_variable: Option<String>,
    /// More fields for the body of every request (`top_k`, `reasoning_effort`, `chat_template_kwargs`, …).
    #[serde(default, serialize_with = "plain_fields", skip_serializing_if = "Map::is_empty")]
    pub extra_body: Map<String, Value>,
    /// How the server is asked for JSON.
    #[serde(default)]
    pub structured: StructuredOutput,
    /// Name of the field that limits the answer's tokens; some models want `max_completion_tokens`.
    #[serde(default = "default_limit_field")]
    pub token_limit_field: String,
}

/// serde_json's numbers keep their digits by a trick that only serde_json understands; a recipe is written as TOML.
struct Plain<'value>(&'value Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => serializer.serialize_i64(integer),
                (None, Some(float)) => serializer.serialize_f64(float),
                (None, None) => Err(serde::ser::Error::custom(format!("{number} is too large a number"))),
            },
            Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
            Value::Object(fields) => plain_fields(fields, serializer),
            scalar => scalar.serialize(serializer),
        }
    }
}

fn plain_fields<S: Serializer>(fields: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, Plain(value))))
}

fn default_limit_field() -> String {
    "max_tokens".into()
}

/// How a server is asked for JSON. Whatever it is, the answer is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// By schema; a server that refuses `response_format` is asked in the next weaker way from then on.
    #[default]
    Auto,
    /// `response_format` with the schema, which the server enforces.
    JsonSchema,
    /// `response_format` for any JSON object; the schema stands in the messages.
    JsonObject,
    /// In words alone.
    Words,
}

impl Endpoint {
    /// An endpoint without a key and with the defaults of everything else.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Endpoint {
        Endpoint {
            base_url: base_url.into(),
            model: model.into(),
            key_variable: None,
            extra_body: Map::new(),
            structured: StructuredOutput::default(),
            token_limit_field: default_limit_field(),
        }
    }

    /// Whether the settings can be used, without sending anything or reading a key.
    ///
    /// # Errors
    /// [`LlmError::BadEndpoint`] with the first that cannot.
    pub fn check(&self) -> Result<(), LlmError> {
        self.url()?;
        if self.model.trim().is_empty() {
            return Err(bad("model", &self.model, "it must name a model"));
        }
        if !["max_tokens", "max_completion_tokens"].contains(&self.token_limit_field.as_str()) {
            let why = "it must be `max_tokens` or `max_completion_tokens`";
            return Err(bad("token_limit_field", &self.token_limit_field, why));
        }
        check_extra("extra_body", &self.extra_body)
    }

    /// Where completions are asked for.
    pub(crate) fn url(&self) -> Result<Url, LlmError> {
        let mut url =
            Url::parse(&self.base_url).map_err(|error| bad("base_url", &self.base_url, error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            // The address is printed, a password in it must not be.
            let why = "it must not hold a user or password; put the key into an environment variable";
            return Err(bad("base_url", "…@…", why));
        }
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
            return Err(bad(
                "base_url",
                &self.base_url,
                "it must begin with http:// or https:// and name a host",
            ));
        }
        if url.fragment().is_some() {
            return Err(bad("base_url", &self.base_url, "it must not have a fragment (`#…`)"));
        }
        let path = url.path().trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            return Err(bad("base_url", &self.base_url, "leave `/chat/completions` out"));
        }
        url.set_path(&format!("{path}/chat/completions"));
        Ok(url)
    }

    /// The key from the environment.
    pub(crate) fn key(&self) -> Result<Option<SecretKey>, LlmError> {
        let Some(variable) = &self.key_variable else { return Ok(None) };
        let missing =
            |why| LlmError::KeyMissing { variable: variable.clone(), base_url: self.base_url.clone(), why };
        match std::env::var(variable) {
            Ok(key) if key.trim().is_empty() => Err(missing("is empty")),
            Ok(key) if key.trim().chars().any(|c| !c.is_ascii_graphic()) => {
                Err(missing("holds characters that a key cannot have"))
            }
            Ok(key) => Ok(Some(SecretKey(key.trim().to_owned()))),
            Err(std::env::VarError::NotPresent) => Err(missing("is not set")),
            Err(std::env::VarError::NotUnicode(_)) => Err(missing("is no UTF-8")),
        }
    }
}

fn bad(field: &'static str, value: &str, why: impl Into<String>) -> LlmError {
    LlmError::BadEndpoint { field, value: value.to_owned(), why: why.into() }
}

/// Refuses fields that the client sets itself: they would change an answer behind the cache's or the budget's back.
pub(crate) fn check_extra(field: &'static str, extra: &Map<String, Value>) -> Result<(), LlmError> {
    match OWN_FIELDS.iter().find(|own| extra.contains_key(**own)) {
        Some(own) => Err(bad(field, own, "the client sets this field of the body itself")),
        None => Ok(()),
    }
}

/// A key. Neither printed nor serialised.
#[derive(Clone)]
pub(crate) struct SecretKey(String);

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey")
    }
}

impl SecretKey {
    /// The header's value, marked as sensitive.
    pub(crate) fn header(&self) -> Option<reqwest::header::HeaderValue> {
        let mut value = reqwest::header::HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Takes the key out of a text that may be printed; servers quote it in their errors.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let url = |base: &str| Endpoint::new(base, "m").url().map(String::from);
        assert_eq!(
            url("http://localhost:8000/v1").as_deref(),
            Ok("http://localhost:8000/v1/chat/completions")
        );
        assert_eq!(url("https://host/v1/").as_deref(), Ok("https://host/v1/chat/completions"));
        assert_eq!(
            url("https://host/openai/deployments/x?api-version=1").as_deref(),
            Ok("https://host/openai/deployments/x/chat/completions?api-version=1")
        );
        for refused in [
            "",
            "localhost:8000/v1",
            "ftp://host/v1",
            "http://",
            "https://h/v1/chat/completions",
            "https://h/#a",
        ] {
            assert!(url(refused).is_err(), "{refused}");
        }
        let error = url("https://user:geheim@host/v1").expect_err("a password").to_string();
        assert!(!error.contains("geheim"), "{error}");
    }

    #[test]
    fn settings_that_would_go_behind_the_cache_are_refused() {
        let mut endpoint = Endpoint::new("http://h/v1", "m");
        endpoint.extra_body.insert("stream".into(), true.into());
        let error = endpoint.check().expect_err("stream");
        assert!(error.to_string().contains("`stream`"), "{error}");
        let text = "base_url = \"http://h/v1\"\nmodel = \"m\"\nkeyvariable = \"X\"\n";
        assert!(toml::from_str::<Endpoint>(text).is_err(), "a misspelt setting");
    }

    #[test]
    fn an_endpoint_survives_toml() {
        let text = "base_url = \"http://h/v1\"\nmodel = \"m\"\nstructured = \"words\"\n\n[extra_body]\nmin_p = 0.05\ntop_k = 20\n\n[extra_body.chat_template_kwargs]\nenable_thinking = false\n";
        let endpoint: Endpoint = toml::from_str(text).expect("understood");
        assert_eq!(endpoint.extra_body["top_k"], serde_json::json!(20));
        let written = toml::to_string(&endpoint).expect("written");
        assert!(written.contains("top_k = 20") && written.contains("min_p = 0.05"), "{written}");
        assert_eq!(toml::from_str::<Endpoint>(&written).expect("read again"), endpoint);
    }

    #[test]
    fn the_key_comes_from_the_environment_and_is_never_printed() {
        let mut endpoint = Endpoint::new("http://h/v1", "m");
        // Cargo sets this one for every test.
        endpoint.key_variable = Some("CARGO_PKG_NAME".into());
        let key = endpoint.key().expect("set").expect("a key");
        assert!(!format!("{key:?} {endpoint:?}").contains("vul2safe-llm"));
        assert_eq!(key.redact("wrong key vul2safe-llm given"), "wrong key [key] given");
        assert!(!format!("{:?}", key.header()).contains("vul2safe-llm"));
        endpoint.key_variable = Some("VUL2SAFE_NO_SUCH_VARIABLE".into());
        assert!(matches!(endpoint.key(), Err(LlmError::KeyMissing { .. })));
    }
}
