//! Scoring on threads of its own, so that the sampler goes on while the answers that it has finished are parsed and tested.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vul2safe_judge::Judge;
use vul2safe_reward::{RewardConfig, Score};

use super::{AnswerText, Judged, Target, score_target};
use crate::failure::{Failure, Result};

/// An answer with what it is worth.
pub struct ScoredAnswer {
    /// The answer as text.
    pub answer: AnswerText,
    /// Its rewards, and what the tests said.
    pub judged: Judged,
    /// How long it took, the tests' processes included.
    pub time: Duration,
}

/// What a job leaves: the place among the answers, and the result or the panic that ended it.
type Message = (usize, thread::Result<ScoredAnswer>);

/// Takes answers one by one and scores them on other threads. The scores are a function of the answers alone: neither their order
/// nor the number of threads changes one.
pub struct Queue<'a, 'scope> {
    scope: &'a rayon::Scope<'scope>,
    judge: &'scope Judge,
    config: &'scope RewardConfig,
    /// What has not been begun by then comes back unscored.
    deadline: Arc<Mutex<Option<Instant>>>,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    waiting: usize,
}

/// Calls `work` with a queue that has as many threads as the current pool.
///
/// # Errors
/// The threads cannot be started.
pub fn with_queue<'scope, T>(
    judge: &'scope Judge,
    config: &'scope RewardConfig,
    work: impl FnOnce(&mut Queue<'_, 'scope>) -> T,
) -> Result<T> {
    // Not the threads of the current pool: one that waits for a test would keep the sampler waiting.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(rayon::current_num_threads())
        .thread_name(|index| format!("scoring-{index}"))
        .build()
        .map_err(|error| Failure::program(format!("the threads for scoring cannot be started: {error}")))?;
    Ok(pool.in_place_scope(|scope| {
        let (sender, receiver) = channel();
        let deadline = Arc::default();
        work(&mut Queue { scope, judge, config, deadline, sender, receiver, waiting: 0 })
    }))
}

impl<'scope> Queue<'_, 'scope> {
    /// Begins to score an answer and returns at once. `answer` makes its text, on one of the queue's threads; `place` is its place
    /// among the answers of [`Queue::collect`].
    pub fn submit(
        &mut self,
        place: usize,
        answer: impl FnOnce() -> AnswerText + Send + 'scope,
        target: Target<'scope>,
    ) {
        let (judge, config, sender) = (self.judge, self.config, self.sender.clone());
        let deadline = Arc::clone(&self.deadline);
        self.waiting += 1;
        self.scope.spawn(move |_| {
            let result = catch_unwind(AssertUnwindSafe(|| {
                let started = Instant::now();
                let answer = answer();
                let deadline = *deadline.lock().unwrap_or_else(PoisonError::into_inner);
                let judged = if deadline.is_some_and(|deadline| started >= deadline) {
                    let why = "its update's scoring ran out of time (`ppo.scoring_seconds`)".to_owned();
                    Judged { score: Score::Unscored { why }, functional: None }
                } else {
                    score_target(&answer, &target, judge, config)
                };
                ScoredAnswer { answer, judged, time: started.elapsed() }
            }));
            // Nobody listens any more only where the run has failed already.
            let _ = sender.send((place, result));
        });
    }

    /// Waits for every answer that was submitted and gives them by their places. What has not been begun at the deadline comes
    /// back unscored; an answer that is in work then has the deadlines of its tests alone.
    pub fn collect(&mut self, deadline: Option<Instant>) -> Vec<ScoredAnswer> {
        self.set_deadline(deadline);
        let mut scored = BTreeMap::new();
        while self.waiting > 0
            && let Ok((place, result)) = self.receiver.recv()
        {
            self.waiting -= 1;
            match result {
                Ok(one) => scored.insert(place, one),
                Err(panic) => resume_unwind(panic),
            };
        }
        self.set_deadline(None);
        scored.into_values().collect()
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}

#[cfg(test)]
mod tests {
    use vul2safe_code::Language;
    use vul2safe_corpus::Tests;
    use vul2safe_reward::Patterns;

    use super::*;
    use crate::scoring::{Reference, score_all};

    fn reference(functional: Option<&str>) -> Reference {
        Reference {
            language: Language::Python,
            cwe: Vec::new(),
            patterns: Patterns::related_only(&[]).expect("nothing to parse"),
            tests: functional.map(|functional| Tests { functional: functional.into(), processes: 0 }),
        }
    }

    fn answer(text: &str) -> AnswerText {
        AnswerText { text: text.to_owned(), tokens: vec![(0, text.len())], finished: true }
    }

    fn totals(judged: &[Judged]) -> Vec<(f32, Option<bool>)> {
        let total = |one: &Judged| match &one.score {
            Score::Scored(scored) => (scored.total, one.functional),
            Score::Unscored { why } => panic!("{why}"),
        };
        judged.iter().map(total).collect()
    }

    #[test]
    fn scores_are_those_of_the_batch_whatever_the_order() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let reference = reference(Some("def test_f(answer):\n    assert answer.f(1) == 1\n"));
        let texts = ["def f(x):\n    return x\n", "def f(x):\n    return 2\n", "def f(x:\n", ""];
        let config = RewardConfig::default();
        let answers: Vec<AnswerText> = texts.iter().map(|text| answer(text)).collect();
        let batch: Vec<(&AnswerText, &Reference)> =
            answers.iter().map(|answer| (answer, &reference)).collect();
        let expected = totals(&score_all(&batch, &judge, &config));
        assert!(
            expected.iter().any(|one| one.1 == Some(true)) && expected.iter().any(|one| one.1 == Some(false))
        );
        with_queue(&judge, &config, |queue| {
            // Twice: an update's answers are no other's.
            for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
                for place in order {
                    queue.submit(place, move || answer(texts[place]), Target::Pair(&reference));
                }
                let scored = queue.collect(None);
                let judged: Vec<Judged> = scored.into_iter().map(|one| one.judged).collect();
                assert_eq!(totals(&judged), expected);
            }
            assert!(queue.collect(None).is_empty());
        })
        .expect("threads");
    }

    #[test]
    fn submitting_does_not_wait_for_the_tests() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let reference = reference(Some("import time\n\ndef test_f(answer):\n    time.sleep(0.5)\n"));
        let config = RewardConfig::default();
        with_queue(&judge, &config, |queue| {
            let started = Instant::now();
            for place in 0..4 {
                queue.submit(place, || answer("def f(x):\n    return x\n"), Target::Pair(&reference));
            }
            let submitted = started.elapsed();
            let scored = queue.collect(None);
            assert_eq!(scored.len(), 4);
            assert!(scored.iter().all(|one| one.time > Duration::from_millis(500)));
            assert!(submitted < Duration::from_millis(500), "submitting took {submitted:?}");
        })
        .expect("threads");
    }

    #[test]
    fn what_is_not_begun_in_time_is_unscored_and_never_a_zero() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let slow = reference(Some("import time\n\ndef test_f(answer):\n    time.sleep(0.3)\n"));
        let config = RewardConfig::default();
        with_queue(&judge, &config, |queue| {
            let (threads, count) = (rayon::current_num_threads(), 4 * rayon::current_num_threads());
            for seconds in [0, 600] {
                for place in 0..count {
                    queue.submit(place, || answer("def f(x):\n    return x\n"), Target::Pair(&slow));
                }
                let scored = queue.collect(Some(Instant::now() + Duration::from_secs(seconds)));
                let late = |one: &&ScoredAnswer| {
                    matches!(&one.judged.score, Score::Unscored { why } if why.contains("scoring_seconds"))
                };
                let unscored = scored.iter().filter(late).count();
                // What is in work at the deadline is finished.
                let range = if seconds == 0 { count - threads..=count } else { 0..=0 };
                assert!(scored.len() == count && range.contains(&unscored), "{unscored} after {seconds} s");
            }
        })
        .expect("threads");
    }

    #[test]
    fn a_panic_reaches_the_one_who_collects() {
        let judge = crate::stages::open_judge(true).expect("a judge");
        let (config, reference) = (RewardConfig::default(), reference(None));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            with_queue(&judge, &config, |queue| {
                queue.submit(0, || panic!("no text"), Target::Pair(&reference));
                queue.collect(None).len()
            })
        }));
        assert!(outcome.is_err());
    }
}
