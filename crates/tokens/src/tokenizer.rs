//! The tokenizer: a Hugging Face `tokenizer.json` with what else this project needs to know of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

use crate::alphabet::{byte_characters, character_bytes, entry_bytes};
use crate::chat;
use crate::error::TokensError;
use crate::train;

/// A byte-level BPE tokenizer. Clones share one vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    /// Knows the added tokens: for chat templates only.
    trusted: tokenizers::Tokenizer,
    /// Knows none of them: for all text from outside.
    untrusted: tokenizers::Tokenizer,
    /// Bytes of each id; empty for special tokens and for ids that the file leaves out.
    bytes: Vec<Vec<u8>>,
    /// The id of each single byte, the last resort of encoding.
    byte_ids: Vec<Option<u32>>,
    end_of_text: u32,
    pad: u32,
    stop_ids: Vec<u32>,
    /// What a chat template writes before and after a user's message, as ids; or why it cannot be used.
    template: Result<(Vec<u32>, Vec<u32>), String>,
    /// The content of `tokenizer.json`.
    source: String,
    /// The content of `tokenizer_config.json`.
    settings: Value,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Learns a byte-level BPE vocabulary of at most `vocabulary` ids from `texts`.
    ///
    /// The special tokens `<|endoftext|>` (padding), `<|im_start|>` and `<|im_end|>` (which ends an answer) are the ids 0, 1
    /// and 2; all 256 bytes follow, so that every text can be encoded. The same texts give the same vocabulary. Few texts
    /// may give fewer ids than asked for: a pair that occurs once is not merged.
    ///
    /// # Errors
    /// [`TokensError::VocabularyTooSmall`] below 259 ids.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str>, vocabulary: usize) -> Result<Self, TokensError> {
        let source = train::train(texts, vocabulary)?;
        let settings = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": train::SPECIAL[2],
            "pad_token": train::SPECIAL[0],
            "add_bos_token": false,
            "clean_up_tokenization_spaces": false,
            "chat_template": chat::CHATML,
        });
        Tokenizer::from_parts(source, settings, Path::new("tokenizer.json"))
    }

    /// Reads `tokenizer.json` of a model folder, and its `tokenizer_config.json` and `chat_template.jinja` where they exist.
    ///
    /// # Errors
    /// [`TokensError::NoTokenizer`] for a folder without `tokenizer.json`; a file that cannot be read or understood; a
    /// tokenizer that is not byte-level BPE.
    pub fn from_folder(model_folder: &Path) -> Result<Self, TokensError> {
        let path = model_folder.join("tokenizer.json");
        if model_folder.is_dir() && !path.exists() {
            return Err(TokensError::NoTokenizer { folder: model_folder.to_path_buf() });
        }
        Tokenizer::from_file(&path)
    }

    /// Reads a `tokenizer.json`, with what stands beside it.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_folder`].
    pub fn from_file(path: &Path) -> Result<Self, TokensError> {
        let source = read(path)?;
        let beside = |name: &str| path.parent().map(|folder| folder.join(name)).filter(|file| file.exists());
        let mut settings = match beside("tokenizer_config.json") {
            Some(file) => serde_json::from_str(&read(&file)?)
                .map_err(|error| TokensError::Syntax { path: file.clone(), message: error.to_string() })?,
            None => Value::Object(serde_json::Map::new()),
        };
        if let (Some(file), Some(settings)) = (beside("chat_template.jinja"), settings.as_object_mut()) {
            settings.insert("chat_template".into(), read(&file)?.into());
        }
        Tokenizer::from_parts(source, settings, path)
    }

    fn from_parts(source: String, settings: Value, path: &Path) -> Result<Self, TokensError> {
        let syntax = |message: String| TokensError::Syntax { path: path.to_path_buf(), message };
        let mut json: Value = serde_json::from_str(&source).map_err(|error| syntax(error.to_string()))?;
        check_byte_level(&json, path)?;
        let trusted = tokenizers::Tokenizer::from_str(&source).map_err(|error| syntax(error.to_string()))?;
        if let Some(object) = json.as_object_mut() {
            object.insert("added_tokens".into(), Value::Array(Vec::new()));
            // Truncation and padding are a caller's business; left in, they would cut long texts silently.
            object.insert("truncation".into(), Value::Null);
            object.insert("padding".into(), Value::Null);
        }
        let untrusted =
            tokenizers::Tokenizer::from_str(&json.to_string()).map_err(|error| syntax(error.to_string()))?;

        let added: BTreeMap<u32, (String, bool)> = trusted
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| (id, (token.content, token.special)))
            .collect();
        let vocabulary = trusted.get_vocab(true);
        let size = vocabulary.values().copied().max().map_or(0, |largest| largest as usize + 1);
        if size > 1 << 24 {
            return Err(syntax(format!("it assigns the id {}", size - 1)));
        }
        let alphabet = character_bytes();
        let mut bytes = vec![Vec::new(); size];
        for (entry, id) in &vocabulary {
            bytes[*id as usize] = match added.get(id) {
                Some((_, true)) => Vec::new(),
                Some((content, false)) => content.clone().into_bytes(),
                None => entry_bytes(entry, &alphabet).ok_or_else(|| {
                    syntax(format!("the entry {entry:?} (id {id}) is not written in the byte alphabet"))
                })?,
            };
        }
        let byte_ids =
            byte_characters().iter().map(|character| untrusted.token_to_id(&character.to_string())).collect();

        let special = |name: &str| {
            let id = trusted.token_to_id(name)?;
            added.contains_key(&id).then_some(id)
        };
        let named = |key: &str| token_name(&settings[key]);
        let template_text = template_text(&settings);
        let chat_end = special("<|im_end|>").filter(|_| template_text.contains("<|im_end|>"));
        let end_of_sequence = named("eos_token").and_then(|name| special(&name));
        let end_of_document = special("<|endoftext|>").or_else(|| special("</s>"));
        let end_of_text = chat_end.or(end_of_sequence).or(end_of_document).ok_or_else(|| {
            syntax("no token ends a text: neither eos_token of tokenizer_config.json nor <|im_end|> nor <|endoftext|> is an added token".into())
        })?;
        let pad =
            named("pad_token").and_then(|name| special(&name)).or(end_of_document).unwrap_or(end_of_text);
        let mut stop_ids: Vec<u32> =
            [Some(end_of_text), end_of_sequence, special("<|im_end|>"), end_of_document]
                .into_iter()
                .flatten()
                .collect();
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let begin = named("bos_token").unwrap_or_default();
        let end = named("eos_token").unwrap_or_default();
        let template = chat::around_user(&template_text, &begin, &end)
            .and_then(|(before, after)| {
                let ids = |text: &str| match trusted.encode_fast(text, false) {
                    Ok(encoding) => Ok(encoding.get_ids().to_vec()),
                    Err(error) => Err(TokensError::Template { message: error.to_string() }),
                };
                Ok((ids(&before)?, ids(&after)?))
            })
            .map_err(|error| match error {
                TokensError::Template { message } => message,
                other => other.to_string(),
            });
        let shared = Shared {
            trusted,
            untrusted,
            bytes,
            byte_ids,
            end_of_text,
            pad,
            stop_ids,
            template,
            source,
            settings,
        };
        Ok(Tokenizer { shared: Arc::new(shared) })
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, each beside its place and then renamed.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, model_folder: &Path) -> Result<(), TokensError> {
        std::fs::create_dir_all(model_folder)
            .map_err(|source| TokensError::Io { path: model_folder.to_path_buf(), source })?;
        write(&model_folder.join("tokenizer_config.json"), &format!("{:#}\n", self.shared.settings))?;
        write(&model_folder.join("tokenizer.json"), &self.shared.source)
    }

    /// One more than the largest id.
    pub fn vocabulary_size(&self) -> usize {
        self.shared.bytes.len()
    }

    /// The ids of a text from outside. No special or added token is recognised in it: `<|im_end|>` is encoded as the
    /// characters it consists of.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match self.shared.untrusted.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // Byte-level BPE has an id for every byte, so that this does not happen; if a file has gaps, bytes still work.
            Err(_) => text.bytes().filter_map(|byte| self.shared.byte_ids[usize::from(byte)]).collect(),
        }
    }

    /// The bytes of an id; empty for special tokens and for ids that the vocabulary leaves out.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.shared.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// The byte range of each id in [`Tokenizer::decode`] of them, as in [`Tokenizer::decode_with_spans`].
    pub fn spans(&self, ids: &[u32]) -> Vec<(usize, usize)> {
        self.decode_with_spans(ids).1
    }

    /// The text of ids. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with_spans(ids).0
    }

    /// The text of ids and the byte range of each id in it.
    ///
    /// The ranges follow each other without gaps and cover the text; special tokens have empty ranges. A range can end
    /// inside a character, where its bytes come from several ids. Each stretch of bytes that is no UTF-8 stands as one
    /// U+FFFD, whose three bytes are shared out among the ids that the stretch came from.
    pub fn decode_with_spans(&self, ids: &[u32]) -> (String, Vec<(usize, usize)>) {
        let mut raw = Vec::new();
        let mut ends = Vec::with_capacity(ids.len());
        for &id in ids {
            raw.extend_from_slice(self.bytes(id));
            ends.push(raw.len());
        }
        let mut text = String::with_capacity(raw.len());
        // Where a raw offset lies in the repaired text, for the offsets that end an id.
        let mut spans = Vec::with_capacity(ids.len());
        let mut pending = ends.into_iter().peekable();
        let mut start = 0;
        let mut read = 0;
        let mut push_until = |limit: usize, base: usize, written: usize, spans: &mut Vec<(usize, usize)>| {
            while let Some(end) = pending.next_if(|&end| end < limit) {
                spans.push((start, written + (end - base)));
                start = written + (end - base);
            }
        };
        for chunk in raw.utf8_chunks() {
            push_until(read + chunk.valid().len(), read, text.len(), &mut spans);
            text.push_str(chunk.valid());
            read += chunk.valid().len();
            // An invalid stretch has one to three bytes, so that offsets into it stay inside the three bytes of U+FFFD.
            push_until(read + chunk.invalid().len(), read, text.len(), &mut spans);
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                read += chunk.invalid().len();
            }
        }
        push_until(usize::MAX, read, text.len(), &mut spans);
        (text, spans)
    }

    /// The id that ends an answer.
    pub fn end_of_text(&self) -> u32 {
        self.shared.end_of_text
    }

    /// The id that fills; it never carries loss.
    pub fn pad(&self) -> u32 {
        self.shared.pad
    }

    /// All ids at which generation stops, in order.
    pub fn stop_ids(&self) -> Vec<u32> {
        self.shared.stop_ids.clone()
    }

    /// The ids of a chat in which `user` has just asked and the assistant is to answer.
    ///
    /// The chat template is rendered around a placeholder and only its own text is searched for special tokens, so that
    /// `user` cannot end its turn or begin another.
    ///
    /// # Errors
    /// [`TokensError::Template`] where the model's template cannot be rendered or drops or repeats the user's message.
    pub fn chat_prompt(&self, user: &str) -> Result<Vec<u32>, TokensError> {
        match &self.shared.template {
            Ok((before, after)) => Ok([before.as_slice(), &self.encode(user), after].concat()),
            Err(message) => Err(TokensError::Template { message: message.clone() }),
        }
    }

    /// The id of a special or added token by its exact name.
    pub fn special(&self, name: &str) -> Option<u32> {
        let id = self.shared.trusted.token_to_id(name)?;
        self.shared.trusted.get_added_tokens_decoder().contains_key(&id).then_some(id)
    }
}

/// `eos_token` and its like are strings or objects with a `content`.
fn token_name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_string)
}

/// The chat template: a string, the entry `default` of a list, or ChatML.
fn template_text(settings: &Value) -> String {
    let template = &settings["chat_template"];
    let listed = || {
        let entries = template.as_array()?;
        let default = entries.iter().find(|entry| entry["name"] == "default").or(entries.first())?;
        default["template"].as_str()
    };
    template.as_str().or_else(listed).unwrap_or(chat::CHATML).to_string()
}

/// Refuses tokenizers whose vocabulary is not written in the byte alphabet.
fn check_byte_level(json: &Value, path: &Path) -> Result<(), TokensError> {
    let kind = json["model"]["type"].as_str().unwrap_or("untyped");
    let decoder = json["decoder"].to_string();
    if kind == "BPE" && decoder.contains("\"ByteLevel\"") {
        return Ok(());
    }
    let found = if kind == "BPE" { "BPE without a byte-level decoder".to_string() } else { kind.to_string() };
    Err(TokensError::NotByteLevel { path: path.to_path_buf(), found })
}

fn read(path: &Path) -> Result<String, TokensError> {
    let bytes = std::fs::read(path).map_err(|source| TokensError::Io { path: path.to_path_buf(), source })?;
    String::from_utf8(bytes).map_err(|error| TokensError::Syntax {
        path: path.to_path_buf(),
        message: error.utf8_error().to_string(),
    })
}

fn write(path: &Path, text: &str) -> Result<(), TokensError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary: PathBuf = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // The first error is the one to report; a part that stays behind is hidden and harmless.
        let _ = std::fs::remove_file(&temporary);
        TokensError::Io { path: path.to_path_buf(), source }
    })
}

/// Ids by name, for tests.
#[cfg(test)]
pub(crate) fn vocabulary(tokenizer: &Tokenizer) -> std::collections::HashMap<String, u32> {
    tokenizer.shared.trusted.get_vocab(true).into_iter().collect()
}
