//! Prompts and answers as token ids: the one place that knows how a request becomes what a model reads.

use vul2safe_corpus::{Prompt, RepairPair};
use vul2safe_tokens::Tokenizer;

use crate::failure::Result;
use crate::scoring::AnswerText;

/// The text a user would send for `prompt`: the request, then the beginning of the code where the style gives one.
pub fn request_text(prompt: &Prompt) -> String {
    prompt.request()
}

/// Prompt ids of every prompt of a pair, in order.
pub fn prompt_ids(tokenizer: &Tokenizer, pair: &RepairPair) -> Result<Vec<Vec<u32>>> {
    pair.prompts.iter().map(|prompt| Ok(tokenizer.chat_prompt(&request_text(prompt))?)).collect()
}

/// Ids of an answer: the code and the id that ends an answer.
pub fn answer_ids(tokenizer: &Tokenizer, code: &str) -> Vec<u32> {
    let mut ids = tokenizer.encode(code);
    ids.push(tokenizer.end_of_text());
    ids
}

/// Response ids as text. The ids are never encoded again: each token keeps its own byte range.
pub fn answer_text(tokenizer: &Tokenizer, ids: &[u32], finished: bool) -> AnswerText {
    let (text, tokens) = tokenizer.decode_with_spans(ids);
    AnswerText { text, tokens, finished }
}
