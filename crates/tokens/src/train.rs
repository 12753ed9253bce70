//! Learning a byte-level BPE vocabulary from texts.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, DecoderWrapper, SplitDelimiterBehavior, TokenizerImpl};

use crate::error::TokensError;

/// Special tokens of a vocabulary trained here, with the ids 0, 1 and 2.
pub(crate) const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// How text is cut before merging: words without what stands before them, single digits, runs of punctuation, line ends
/// with the indentation that follows, runs of blanks.
///
/// Vocabularies of large models join a word with the blank or the bracket before it, so that one name has many ids
/// (`name`, ` name`, `(name`, `_name`). Here a word has the same ids wherever it stands: a model of a million parameters
/// can then copy a name from the request into the code by looking it up, without learning which ids mean the same word.
const PATTERN: &str = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+[ \t]*|\s+";

/// Trains and gives back the content of `tokenizer.json`.
pub(crate) fn train<'a>(
    texts: impl Iterator<Item = &'a str>,
    vocabulary: usize,
) -> Result<String, TokensError> {
    let least = 256 + SPECIAL.len();
    if vocabulary < least {
        return Err(TokensError::VocabularyTooSmall { asked: vocabulary, least });
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| TokensError::Training {
        message: error.to_string(),
    };
    let split = Split::new(SplitPattern::Regex(PATTERN.into()), SplitDelimiterBehavior::Isolated, false)
        .map_err(failed)?;
    let byte_level = ByteLevel::new(false, false, false);
    let mut tokenizer: TokenizerImpl<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    > = TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), byte_level.into()])));
    tokenizer.with_decoder(Some(byte_level));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.iter().map(|token| AddedToken::from(*token, true)).collect())
        .build();
    // The library reads the texts from a thread of its own, which a borrowed iterator cannot promise to allow.
    let texts: Vec<&str> = texts.collect();
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}
