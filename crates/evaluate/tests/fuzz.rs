//! The suite readers against bytes that no suite holds: mutations of files of our own, drawn by a fixed seed.
//!
//! `VUL2SAFE_FUZZ_SECONDS` gives each reader so many seconds (its tests run side by side, one a core); without it each
//! gets a few hundred inputs. A reader may refuse an input, with a message and a hint; it may not panic, and what it
//! accepts must become programs without a panic. `VUL2SAFE_FUZZ_SEED` draws other mutations.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vul2safe_evaluate::{Format, SourceFile, Suite, assemble, parse_answers};

/// Inputs of each reader where no time is given.
const FEW: usize = 300;

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites").join(name)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// One to eight changes: bytes turned, cut out, doubled, moved from elsewhere, or replaced by words of the formats.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 26] = [
            b"\"",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"null",
            b"true",
            b"-1",
            b"1e999",
            b"\\u0000",
            b"\\ud800",
            b"\0",
            b"\r",
            b"\n",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"def ",
            b"class ",
            b"assert",
            b"BEGIN SOLUTION\n",
            b"BEGIN PROMPT\n",
            b"\"task_id\"",
            b"18446744073709551616",
            "é\u{202e}".as_bytes(),
        ];
        let mut out = bytes.to_vec();
        for _ in 0..1 + self.below(8) {
            let at = self.below(out.len() + 1);
            let length = self.below(40).min(out.len() - at);
            match self.below(7) {
                0 if at < out.len() => out[at] ^= 1 << self.below(8),
                1 => drop(out.drain(at..at + length)),
                2 => {
                    let piece = out[at..at + length].to_vec();
                    out.splice(at..at, piece);
                }
                3 => {
                    let from = self.below(bytes.len() + 1);
                    let piece = &bytes[from..(from + self.below(200)).min(bytes.len())];
                    out.splice(at..at + length, piece.iter().copied());
                }
                4 => out.truncate(at),
                5 => {
                    // A tower of brackets.
                    let tower = vec![b"[{("[self.below(3)]; self.below(3_000)];
                    out.splice(at..at, tower);
                }
                _ => drop(out.splice(at..at + length, WORDS[self.below(WORDS.len())].iter().copied())),
            }
        }
        out
    }
}

/// Calls `read` with mutations of the files until the time is over.
fn fuzz(names: &[&str], read: impl Fn(&[SourceFile]) -> bool) {
    let files: Vec<SourceFile> = names
        .iter()
        .map(|name| SourceFile { path: own(name), bytes: std::fs::read(own(name)).expect("readable") })
        .collect();
    let name_sum: u64 = names[0].bytes().map(u64::from).sum();
    let mut random = Random(number("VUL2SAFE_FUZZ_SEED").unwrap_or(0).wrapping_add(name_sum));
    let end = number("VUL2SAFE_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut inputs, mut accepted) = (0_usize, 0_usize);
    while end.map_or(inputs < FEW, |end| Instant::now() < end) {
        let mut changed = files.clone();
        let which = random.below(changed.len());
        changed[which].bytes = random.mutate(&changed[which].bytes);
        accepted += usize::from(read(&changed));
        inputs += 1;
    }
    println!("{}: {inputs} inputs, {accepted} accepted", names[0]);
    assert!(inputs > 0);
}

/// Whether the reader took the files; what it took is used.
fn reader(word: &str, files: &[SourceFile]) -> bool {
    // A file may turn into gzip data.
    let files: Vec<SourceFile> =
        files.iter().filter_map(|file| SourceFile::new(&file.path, file.bytes.clone()).ok()).collect();
    let format = Format::by_word(word).expect("a known suite");
    match format.parse(Path::new("fuzzed"), &files) {
        Ok(suite) => {
            assert!(!suite.items.is_empty() && suite.version().len() == 16);
            for item in &suite.items {
                for answer in item.reference.iter().chain(&item.insecure).chain([&"return 1".to_owned()]) {
                    let assembled = assemble(item, answer);
                    assert!(assembled.answer.end <= assembled.program.len());
                }
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && error.hint().is_some());
            false
        }
    }
}

macro_rules! readers {
    ($($name:ident: $word:literal, $files:expr;)*) => {$(
        #[test]
        fn $name() {
            fuzz(&$files, |files| reader($word, files));
        }
    )*};
}

readers! {
    humaneval: "humaneval", ["humaneval.jsonl"];
    mbpp: "mbpp", ["mbpp.jsonl"];
    humaneval_pro: "humaneval-pro", ["humaneval_pro.json"];
    mbpp_pro: "mbpp-pro", ["mbpp_pro.json"];
    cyberseceval_instruct: "cyberseceval-instruct", ["cyberseceval_instruct.json"];
    cyberseceval_autocomplete: "cyberseceval-autocomplete", ["cyberseceval_autocomplete.json"];
    sven_scenarios: "sven-scenarios", ["scenarios.jsonl"];
    sven_scenarios_in_folders: "sven-scenarios", [
        "scenarios/gen_1/cwe-089/0-py/info.json",
        "scenarios/gen_1/cwe-089/0-py/file_context.py",
        "scenarios/gen_1/cwe-089/0-py/func_context.py",
    ];
    securityeval: "securityeval", ["securityeval.jsonl"];
    llmseceval_csv: "llmseceval", ["llmseceval.csv"];
    llmseceval_json: "llmseceval", ["llmseceval_first.json"];
    cweval: "cweval", [
        "cweval/core/py/cwe_022_0_task.py",
        "cweval/core/py/cwe_022_0_test.py",
        "cweval/core/c/cwe_787_0_c_task.c",
        "cweval/core/c/cwe_787_0_c_unsafe.c",
    ];
}

#[test]
fn answers() {
    let suite: Suite =
        Format::by_word("humaneval").expect("known").read(&own("humaneval.jsonl")).expect("read");
    fuzz(&["answers.jsonl"], |files| match parse_answers(&files[0], &suite) {
        Ok(answers) => {
            assert!(answers.iter().all(|answer| answer.item < suite.items.len()));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && error.hint().is_some());
            false
        }
    });
}
