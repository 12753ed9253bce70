//! Answers in JSON of a form that is given by a Rust type.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::extract::json_candidates;

type Check = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The form an answer must have: a JSON Schema for the model and the server, and the check that decides.
///
/// The server is not believed to keep to the schema: every answer is read as the Rust type, then checked further
/// where [`StructuredAnswer::with_check`] says so. What is wrong with it goes back to the model.
#[derive(Clone)]
pub struct StructuredAnswer {
    name: String,
    schema: Value,
    check: Arc<Check>,
}

impl fmt::Debug for StructuredAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StructuredAnswer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl StructuredAnswer {
    /// An object as `T` describes it; `name` is its name for the server: letters, digits, `_` and `-`.
    ///
    /// The schema is brought into the form that servers which enforce schemas ask for: every field required, no
    /// other allowed, no defaults; optional fields are null. `T`'s own `Deserialize` may be more lenient.
    pub fn of<T: DeserializeOwned + JsonSchema + 'static>(name: &str) -> StructuredAnswer {
        StructuredAnswer::with_check::<T>(name, |_| Ok(()))
    }

    /// The same with a check of the value; its complaint is put to the model, so it should say what to do.
    pub fn with_check<T: DeserializeOwned + JsonSchema + 'static>(
        name: &str,
        check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) -> StructuredAnswer {
        let mut schema = schemars::schema_for!(T).to_value();
        tighten(&mut schema);
        let check = move |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                let path = error.path().to_string();
                let detail = error.into_inner();
                if path == "." { detail.to_string() } else { format!("at `{path}`: {detail}") }
            })?;
            check(&value)
        };
        StructuredAnswer { name: name.to_owned(), schema, check: Arc::new(check) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema, as it goes to the server.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// The JSON value of an answer, or what is wrong with the answer.
    ///
    /// The first object of the text that passes is taken; a complaint is about the likeliest one.
    ///
    /// # Errors
    /// A sentence that says to the model what is wrong.
    pub fn read<'text>(&self, text: &'text str) -> Result<&'text str, String> {
        let candidates = json_candidates(text);
        let mut complaint = None;
        for candidate in candidates {
            match (self.check)(candidate) {
                Ok(()) => return Ok(candidate),
                Err(detail) => {
                    complaint.get_or_insert(detail);
                }
            }
        }
        Err(complaint.unwrap_or_else(|| "it holds no complete JSON object".into()))
    }

    /// What the model is told of the form where the server does not take a schema.
    pub(crate) fn instruction(&self) -> String {
        format!(
            "Answer with one JSON object and nothing else: no prose, no code fence. It must match this JSON Schema:\n{}",
            self.schema
        )
    }

    /// `response_format` of a server that takes schemas.
    pub(crate) fn response_format(&self) -> Value {
        json!({
            "type": "json_schema",
            "json_schema": { "name": self.name, "strict": true, "schema": self.schema },
        })
    }
}

/// What the model is told when its answer had not the form.
pub(crate) fn complain(complaint: &str) -> String {
    format!(
        "That answer cannot be used: {complaint}. Answer again, whole, with one JSON object of the form that was asked \
         for and nothing else."
    )
}

/// Keywords that servers which enforce schemas do not take, and that do not change which values are right here.
const DROPPED: [&str; 4] = ["$schema", "default", "format", "title"];

/// Makes the schema one that enforcing servers take.
fn tighten(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    // Under these two keys stand names of the type's own, not keywords.
    for key in ["properties", "$defs"] {
        if let Some(Value::Object(inner)) = fields.get_mut(key) {
            inner.values_mut().for_each(tighten);
        }
    }
    fields.retain(|name, _| !DROPPED.contains(&name.as_str()));
    if let Some(one_of) = fields.remove("oneOf") {
        fields.insert("anyOf".into(), one_of);
    }
    for key in ["anyOf", "allOf", "prefixItems"] {
        if let Some(Value::Array(items)) = fields.get_mut(key) {
            items.iter_mut().for_each(tighten);
        }
    }
    if let Some(items) = fields.get_mut("items") {
        tighten(items);
    }
    close(fields);
}

/// Every property required and no other allowed.
fn close(fields: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = fields.get("properties") else { return };
    let names: Vec<Value> = properties.keys().map(|name| Value::String(name.clone())).collect();
    fields.insert("required".into(), names.into());
    fields.insert("additionalProperties".into(), false.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// A verdict.
    #[derive(Debug, Deserialize, JsonSchema)]
    struct Verdict {
        sound: bool,
        #[serde(default)]
        #[allow(dead_code, reason = "it is there to be described")]
        note: Option<String>,
        quotes: Vec<Quote>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "fields are there to be described")]
    struct Quote {
        format: String,
        weight: u32,
    }

    #[test]
    fn the_schema_is_closed_all_the_way_down() {
        let form = StructuredAnswer::of::<Verdict>("verdict");
        let schema = form.schema();
        assert_eq!(schema["required"], json!(["note", "quotes", "sound"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        let quote = &schema["$defs"]["Quote"];
        assert_eq!(quote["additionalProperties"], json!(false));
        assert!(
            quote["properties"]["format"].is_object(),
            "a property named `format` is no keyword: {quote}"
        );
        assert!(quote["properties"]["weight"].get("format").is_none(), "uint32 is no format of JSON Schema");
        assert!(schema.get("$schema").is_none() && schema["properties"]["note"].get("default").is_none());
    }

    #[test]
    fn complaints_say_where() {
        let form = StructuredAnswer::with_check::<Verdict>("verdict", |verdict| {
            if verdict.sound && !verdict.quotes.is_empty() {
                return Err("a sound repair has no quotes".into());
            }
            Ok(())
        });
        assert_eq!(
            form.read("Here: {\"sound\": true, \"quotes\": []}."),
            Ok("{\"sound\": true, \"quotes\": []}")
        );
        let complaint = |text: &str| form.read(text).expect_err("a complaint");
        assert!(complaint("I think so.").contains("no complete JSON object"));
        assert!(complaint(r#"{"quotes": []}"#).contains("missing field `sound`"));
        let nested = complaint(r#"{"sound": true, "quotes": [{"format": "x", "weight": "heavy"}]}"#);
        assert!(nested.contains("quotes[0].weight"), "{nested}");
        let checked = complaint(r#"{"sound": true, "quotes": [{"format": "x", "weight": 1}]}"#);
        assert_eq!(checked, "a sound repair has no quotes");
    }
}
