//! The teacher that asks language models.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use vul2safe_code::Cwe;
use vul2safe_corpus::{Evidence, Prompt, Verdict, VulnerabilityRecord};
use vul2safe_judge::extract_code;
use vul2safe_llm::{Client, LlmError, PromptSet, Request, Response, StructuredAnswer};

use crate::leaks::{asked_parameters, needed_names};
use crate::roles::{
    AnalysisAnswer, CriticVerdict, CriticismAnswer, JudgementAnswer, RepairAnswer, RequestsAnswer, Versions,
    analysis_form, criticism_form, judgement_form, repair_form, requests_form,
};
use crate::teacher::{Analysis, Criticism, Proposal, Proposals, Quote, Unanswered, Vote};
use crate::{Draft, OfflineTeacher, Teacher};

/// How the models are asked.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageTeacherConfig {
    /// Repairs that are proposed for a record without an upstream fix.
    pub proposals: u32,
    /// Judges that are asked, each once in either order of the sides; none: the checks and the critic decide alone.
    pub judges: u32,
    /// Implicit prompts that are asked for; none: only those of the offline teacher.
    pub requests: u32,
    /// Sampling temperature of proposals, judges and implicit prompts. Analysis and criticism use 0.
    pub temperature: f64,
    /// Tokens an answer may have at most, at first.
    pub max_tokens: u32,
    /// Records in work at a time.
    pub records_at_once: usize,
    /// Seed that is sent to the servers.
    pub seed: Option<u64>,
}

impl Default for LanguageTeacherConfig {
    fn default() -> Self {
        Self {
            proposals: 3,
            judges: 3,
            requests: 12,
            temperature: 0.7,
            max_tokens: 4096,
            records_at_once: 32,
            seed: None,
        }
    }
}

/// Language models in three roles, which may be the same or different ones. Each request is a context of its own: the
/// critic and the judges do not see what the teacher thought, only its explanation of the flaw and the code.
///
/// An answer that has not its form after all complaints is no answer: no proposal, no vote, no prompt. An error that may
/// pass (budget, server) leaves the record open.
#[derive(Debug)]
pub struct LanguageTeacher {
    name: String,
    teacher: Client,
    critic: Client,
    judge: Client,
    prompts: PromptSet,
    config: LanguageTeacherConfig,
}

/// What came of a request.
enum Answered<T> {
    Value(T),
    /// Nothing of use, and why.
    Nothing(String),
}

impl LanguageTeacher {
    /// The models of the three roles; the teacher's is what stands in a repair's `by`.
    pub fn new(
        teacher: Client,
        critic: Client,
        judge: Client,
        prompts: PromptSet,
        config: LanguageTeacherConfig,
    ) -> Self {
        Self { name: teacher.endpoint().model.clone(), teacher, critic, judge, prompts, config }
    }

    fn request(
        &self,
        role: &str,
        record: &VulnerabilityRecord,
        context: impl Serialize,
        form: StructuredAnswer,
        temperature: f64,
    ) -> Result<Request, Unanswered> {
        let prompt = self.prompts.render(role, context).map_err(unanswered)?;
        Ok(Request {
            messages: prompt.messages,
            prompt_version: Some(prompt.version),
            max_tokens: self.config.max_tokens,
            temperature: Some(temperature),
            seed: self.config.seed,
            structured: Some(form),
            record: Some(record.id.clone()),
            role: Some(role.to_owned()),
            ..Request::default()
        })
    }

    fn ask<T: DeserializeOwned>(&self, client: &Client, request: Request) -> Result<Answered<T>, Unanswered> {
        understand(client.complete(request))
    }

    /// Several requests at once; the order of the answers is theirs.
    fn ask_all<T: DeserializeOwned>(
        &self,
        client: &Client,
        requests: Vec<Request>,
    ) -> Result<Vec<Answered<T>>, Unanswered> {
        let mut results: Vec<Option<Result<Response, LlmError>>> = requests.iter().map(|_| None).collect();
        client.complete_all(requests, |index, result| results[index] = Some(result));
        results.into_iter().flatten().map(understand).collect()
    }

    fn proposal(&self, code: &str, record: &VulnerabilityRecord) -> Proposal {
        // The field holds code alone; models put fences around it all the same. Without any, nothing is taken for prose:
        // broken code must stay broken.
        let is_fenced = code.lines().any(|line| line.trim_start().starts_with("```"));
        let mut secure = if is_fenced { extract_code(code, record.language) } else { code.to_owned() };
        if record.vulnerable.ends_with('\n') && !secure.ends_with('\n') {
            secure.push('\n');
        }
        Proposal { secure, by: self.name.clone() }
    }
}

fn understand<T: DeserializeOwned>(result: Result<Response, LlmError>) -> Result<Answered<T>, Unanswered> {
    match result {
        Ok(response) => Ok(match response.value() {
            Ok(value) => Answered::Value(value),
            Err(error) => Answered::Nothing(error.to_string()),
        }),
        Err(error) if error.is_temporary() => Err(unanswered(error)),
        Err(error) => Ok(Answered::Nothing(error.to_string())),
    }
}

fn unanswered(error: LlmError) -> Unanswered {
    Unanswered { hint: error.hint(), detail: error.to_string() }
}

/// The weaknesses in words, as far as they have any.
fn names(cwe: &[Cwe]) -> Vec<String> {
    cwe.iter()
        .map(|cwe| match cwe.name() {
            Some(name) => format!("{cwe} ({name})"),
            None => cwe.to_string(),
        })
        .collect()
}

/// What the record says, and else what the teacher says.
fn weaknesses(record: &VulnerabilityRecord, analysis: &Analysis) -> Vec<String> {
    names(if record.cwe.is_empty() { &analysis.cwe } else { &record.cwe })
}

impl Teacher for LanguageTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn analyse(&self, record: &VulnerabilityRecord) -> Result<Analysis, Unanswered> {
        let context = json!({
            "language": record.language.to_string(),
            "code": record.vulnerable,
            "cwe": names(&record.cwe),
            "description": record.description.as_deref().unwrap_or_default(),
        });
        let request = self.request("analyse", record, context, analysis_form(), 0.0)?;
        let answer: AnalysisAnswer = match self.ask(&self.teacher, request)? {
            Answered::Value(answer) => answer,
            // What the analyzer sees is better than nothing to start a repair from.
            Answered::Nothing(_) => return OfflineTeacher.analyse(record),
        };
        let mut cwe: Vec<Cwe> = Vec::new();
        for named in answer.cwe.iter().filter_map(|text| Cwe::parse(text)) {
            if !cwe.contains(&named) {
                cwe.push(named);
            }
        }
        let quote = |quote: crate::roles::QuoteAnswer| Quote {
            cwe: quote.cwe.as_deref().and_then(Cwe::parse),
            reason: if quote.reason.trim().is_empty() { "named by the teacher".into() } else { quote.reason },
            text: quote.text,
        };
        Ok(Analysis {
            explanation: answer.explanation,
            cwe,
            quotes: answer.quotes.into_iter().map(quote).collect(),
        })
    }

    fn propose(&self, record: &VulnerabilityRecord, analysis: &Analysis) -> Result<Proposals, Unanswered> {
        // An upstream fix is a proposal like any other; where it fails, it is revised.
        if let Some(upstream) = Proposal::upstream(record) {
            return Ok(vec![upstream].into());
        }
        let quotes: Vec<_> = analysis
            .quotes
            .iter()
            .map(|quote| json!({ "text": quote.text, "reason": quote.reason }))
            .collect();
        let context = json!({
            "language": record.language.to_string(),
            "code": record.vulnerable,
            "explanation": analysis.explanation,
            "cwe": weaknesses(record, analysis),
            "quotes": quotes,
        });
        let request = self.request("repair", record, context, repair_form(), self.config.temperature)?;
        let requests =
            (0..self.config.proposals).map(|sample| Request { sample, ..request.clone() }).collect();
        let mut repairs: Vec<Proposal> = Vec::new();
        let mut shortage = None;
        for answer in self.ask_all::<RepairAnswer>(&self.teacher, requests)? {
            match answer {
                Answered::Value(answer) => {
                    let proposal = self.proposal(&answer.code, record);
                    if !repairs.contains(&proposal) {
                        repairs.push(proposal);
                    }
                }
                Answered::Nothing(why) => shortage = shortage.or(Some(why)),
            }
        }
        Ok(Proposals { repairs, shortage })
    }

    fn criticise(&self, draft: &Draft, analysis: &Analysis) -> Result<Criticism, Unanswered> {
        let record = &draft.record;
        let context = json!({
            "language": record.language.to_string(),
            "before": record.vulnerable,
            "after": draft.secure,
            "explanation": analysis.explanation,
            "cwe": weaknesses(record, analysis),
        });
        let request = self.request("criticise", record, context, criticism_form(), 0.0)?;
        let vote = |verdict, detail: String, quote| Vote {
            evidence: Evidence { check: "critic".into(), verdict, detail },
            quote,
        };
        let votes = match self.ask::<CriticismAnswer>(&self.critic, request)? {
            Answered::Nothing(why) => {
                vec![vote(Verdict::Abstained, format!("no usable answer: {why}"), None)]
            }
            Answered::Value(answer) if answer.verdict == CriticVerdict::Sound => {
                vec![vote(Verdict::Passed, "the critic could not break the repair".into(), None)]
            }
            Answered::Value(answer) => answer
                .objections
                .into_iter()
                .map(|objection| {
                    let detail = format!("{}: {}", objection.kind.words(), objection.claim);
                    vote(Verdict::Failed, detail, Some(objection.quote))
                })
                .collect(),
        };
        Ok(Criticism { votes })
    }

    fn judge(&self, draft: &Draft, analysis: &Analysis) -> Result<Vec<Vote>, Unanswered> {
        let record = &draft.record;
        let mut requests = Vec::new();
        for sample in 0..self.config.judges {
            for repaired_first in [false, true] {
                let (first, second) = match repaired_first {
                    false => (&record.vulnerable, &draft.secure),
                    true => (&draft.secure, &record.vulnerable),
                };
                let context = json!({
                    "language": record.language.to_string(),
                    "first": first,
                    "second": second,
                    "explanation": analysis.explanation,
                    "cwe": weaknesses(record, analysis),
                });
                let request =
                    self.request("judge", record, context, judgement_form(), self.config.temperature)?;
                requests.push(Request { sample, ..request });
            }
        }
        let answers = self.ask_all::<JudgementAnswer>(&self.judge, requests)?;
        Ok(answers
            .chunks(2)
            .enumerate()
            .map(|(number, pair)| {
                let sides: Vec<Option<Opinion>> = pair
                    .iter()
                    .enumerate()
                    .map(|(order, answer)| match answer {
                        Answered::Value(answer) => Some(opinion(answer, order == 1)),
                        Answered::Nothing(_) => None,
                    })
                    .collect();
                let (verdict, detail) = vote_of(&sides);
                let check = format!("judge_{}", number + 1);
                Vote { evidence: Evidence { check, verdict, detail: detail.into() }, quote: None }
            })
            .collect())
    }

    fn revise(
        &self,
        draft: &Draft,
        analysis: &Analysis,
        failed: &[Evidence],
    ) -> Result<Option<Proposal>, Unanswered> {
        let record = &draft.record;
        let failed: Vec<_> = failed
            .iter()
            .map(|failure| json!({ "check": failure.check, "detail": failure.detail }))
            .collect();
        let context = json!({
            "language": record.language.to_string(),
            "before": record.vulnerable,
            "after": draft.secure,
            "explanation": analysis.explanation,
            "failed": failed,
        });
        let request = self.request("revise", record, context, repair_form(), self.config.temperature)?;
        Ok(match self.ask::<RepairAnswer>(&self.teacher, request)? {
            Answered::Value(answer) => Some(self.proposal(&answer.code, record)),
            Answered::Nothing(_) => None,
        })
    }

    /// The models' requests and the offline teacher's, in turn, so that neither kind fills all places.
    fn prompts(&self, draft: &Draft, count: usize, seed: u64) -> Result<Vec<Prompt>, Unanswered> {
        let offline = OfflineTeacher.prompts(draft, count, seed)?;
        if self.config.requests == 0 {
            return Ok(offline);
        }
        let (signature, parameters) = match &draft.function_after {
            Some(function) => (
                format!("{}({})", function.name, function.parameters.join(", ")),
                asked_parameters(function).map(str::to_owned).collect::<Vec<_>>(),
            ),
            None => (String::new(), needed_names(draft)),
        };
        let mut forbidden: Vec<&String> = draft.one_sided.iter().collect();
        forbidden.sort();
        let context = json!({
            "language": draft.record.language.to_string(),
            "code": draft.secure,
            "signature": signature,
            "parameters": parameters,
            "forbidden": forbidden,
            "count": self.config.requests,
        });
        let request =
            self.request("requests", &draft.record, context, requests_form(), self.config.temperature)?;
        let written = match self.ask::<RequestsAnswer>(&self.teacher, request)? {
            Answered::Value(answer) => answer.requests,
            Answered::Nothing(_) => Vec::new(),
        };
        let mut written = written.into_iter().map(|request| Prompt {
            text: request.text.trim().to_owned(),
            style: request.style.name().into(),
            prefix: None,
            checks: Vec::new(),
        });
        let mut offline = offline.into_iter();
        let mut mixed = Vec::new();
        loop {
            let (one, other) = (written.next(), offline.next());
            if one.is_none() && other.is_none() {
                return Ok(mixed);
            }
            mixed.extend(one);
            mixed.extend(other);
        }
    }

    fn records_at_once(&self) -> usize {
        self.config.records_at_once.max(1)
    }
}

/// What a judge thinks of the two sides, with the order taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opinion {
    repaired_is_weak: bool,
    vulnerable_is_weak: bool,
    same_behaviour: bool,
}

fn opinion(answer: &JudgementAnswer, repaired_first: bool) -> Opinion {
    let first = matches!(answer.weakness_in, Versions::First | Versions::Both);
    let second = matches!(answer.weakness_in, Versions::Second | Versions::Both);
    let (repaired_is_weak, vulnerable_is_weak) =
        if repaired_first { (first, second) } else { (second, first) };
    Opinion { repaired_is_weak, vulnerable_is_weak, same_behaviour: answer.same_behaviour }
}

/// One vote of two opinions in either order. Who changes their mind with the order has none.
fn vote_of(opinions: &[Option<Opinion>]) -> (Verdict, &'static str) {
    let [Some(one), Some(other)] = opinions else {
        return (Verdict::Abstained, "no usable answer in one of the two orders");
    };
    let both = |holds: fn(&Opinion) -> bool| holds(one) && holds(other);
    if both(|opinion| opinion.repaired_is_weak) {
        (Verdict::Failed, "the repaired side still has the weakness, in both orders")
    } else if both(|opinion| !opinion.repaired_is_weak && opinion.vulnerable_is_weak) {
        if both(|opinion| opinion.same_behaviour) {
            (Verdict::Passed, "only the vulnerable side has the weakness, in both orders")
        } else if both(|opinion| !opinion.same_behaviour) {
            (Verdict::Failed, "the repaired side does something else, in both orders")
        } else {
            (Verdict::Abstained, "the opinion of the behaviour changes with the order")
        }
    } else if both(|opinion| !opinion.repaired_is_weak && !opinion.vulnerable_is_weak) {
        (Verdict::Abstained, "sees the weakness on neither side")
    } else {
        (Verdict::Abstained, "the opinion changes with the order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opinion_that_changes_with_the_order_is_no_vote() {
        use Versions::{Both, First, Neither, Second};
        // In the first order the vulnerable side stands first, in the second it stands second.
        let vote = |one, other, same| {
            let answer = |weakness_in, same_behaviour| JudgementAnswer {
                reasoning: String::new(),
                weakness_in,
                same_behaviour,
            };
            vote_of(&[Some(opinion(&answer(one, same), false)), Some(opinion(&answer(other, true), true))]).0
        };
        assert_eq!(vote(First, Second, true), Verdict::Passed);
        assert_eq!(vote(First, First, true), Verdict::Abstained, "always the first");
        assert_eq!(vote(Second, Second, true), Verdict::Abstained, "always the second");
        assert_eq!(vote(Second, First, true), Verdict::Failed);
        assert_eq!(vote(Both, Both, true), Verdict::Failed);
        assert_eq!(vote(Neither, Neither, true), Verdict::Abstained);
        assert_eq!(vote(First, Second, false), Verdict::Abstained);
        assert_eq!(vote_of(&[None, None]).0, Verdict::Abstained);
    }

    /// Every prompt is filled in once with all that its comment says it is given, and fences what others wrote.
    #[test]
    fn all_prompts_can_be_filled_in() {
        let set = crate::prompt_set(None).expect("sound");
        let context = json!({
            "language": "python", "code": "CODE", "before": "BEFORE", "after": "AFTER", "first": "FIRST",
            "second": "SECOND", "explanation": "WHY", "description": "REPORT", "cwe": ["CWE-89"],
            "quotes": [{"text": "QUOTE", "reason": "because"}], "failed": [{"check": "critic", "detail": "DETAIL"}],
            "signature": "f(a)", "parameters": ["a"], "forbidden": ["b"], "count": 12,
        });
        for name in set.names() {
            let rendered = set.render(name, &context).expect(name);
            assert_eq!(rendered.messages.len(), 2, "{name}");
            assert!(rendered.messages[0].content.contains("never an instruction"), "{name}");
            let user = &rendered.messages[1].content;
            for word in ["CODE", "BEFORE", "AFTER", "FIRST", "SECOND", "REPORT", "QUOTE", "DETAIL"] {
                let lines: Vec<&str> = user.lines().collect();
                for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(word)) {
                    assert!(index > 0 && lines[index - 1].starts_with("<data-"), "{name}: {line}");
                }
            }
            assert!(!user.contains("{{") && !user.contains("{%"), "{name}");
        }
    }
}
