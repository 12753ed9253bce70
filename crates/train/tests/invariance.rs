//! What may not change the numbers does not: gradient checkpointing, a kill and a resume, another run of the same.

mod tiny;

use vul2safe_model::Model;
use vul2safe_reward::{Score, Scored};
use vul2safe_train::optimizer::Method;
use vul2safe_train::{
    Checkpoint, Control, Example, OptimizerConfig, PpoConfig, PpoPrompt, PpoState, PretrainConfig, Rollout,
    SftConfig, TrainError, TrainSummary, ppo, ppo_from, pretrain_from, sft_from,
};

type Result<T> = std::result::Result<T, TrainError>;

fn optimizer() -> OptimizerConfig {
    OptimizerConfig { learning_rate: 1e-2, warmup_steps: 2, ..OptimizerConfig::default() }
}

/// A stage under test: what it trains and how.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Pretrain,
    Sft,
}

/// A run of a stage over the same data every time.
#[derive(Clone, Debug)]
struct Run {
    stage: Stage,
    adapter: bool,
    method: Method,
    checkpointing: bool,
    learning_rate: f64,
    seed: u64,
    data: u32,
}

impl Run {
    fn all() -> Vec<Run> {
        let run = |stage, adapter| Run {
            stage,
            adapter,
            method: Method::Adamw,
            checkpointing: false,
            learning_rate: 1e-2,
            seed: 4,
            data: 0,
        };
        vec![
            run(Stage::Pretrain, false),
            run(Stage::Pretrain, true),
            run(Stage::Sft, false),
            run(Stage::Sft, true),
            Run { method: Method::Muon, ..run(Stage::Pretrain, false) },
        ]
    }

    /// A model as it stands before the run; an adapter has dropout.
    fn model(&self) -> Model {
        let base = tiny::model(1);
        if self.adapter { tiny::adapted(&base, 0.2) } else { base }
    }

    /// Eight steps of three micro-batches or so.
    fn go(
        &self,
        model: &Model,
        checkpoint: Option<&Checkpoint>,
        log: &mut vul2safe_train::supervised::Log<'_>,
    ) -> Result<TrainSummary> {
        let optimizer =
            OptimizerConfig { method: self.method, learning_rate: self.learning_rate, ..optimizer() };
        let ids = |index: u32| (0..9 + 3 * index).map(move |at| (at * 7 + index * 31 + self.data) % 250);
        match self.stage {
            Stage::Pretrain => {
                let documents: Vec<Vec<u32>> = (0..6).map(|index| ids(index).collect()).collect();
                let config = PretrainConfig {
                    optimizer,
                    epochs: 4,
                    tokens_per_batch: 60,
                    tokens_per_microbatch: 25,
                    gradient_checkpointing: self.checkpointing,
                    maximum_steps: Some(8),
                    seed: self.seed,
                    ..PretrainConfig::default()
                };
                pretrain_from(model, &documents, &config, checkpoint, log)
            }
            Stage::Sft => {
                let examples: Vec<Example> = (0..6)
                    .map(|index| Example {
                        prompt: ids(index).take(4).collect(),
                        completion: ids(index).skip(4).collect(),
                        weights: None,
                    })
                    .collect();
                let config = SftConfig {
                    optimizer,
                    epochs: 4,
                    tokens_per_batch: 60,
                    tokens_per_microbatch: 25,
                    gradient_checkpointing: self.checkpointing,
                    maximum_steps: Some(8),
                    seed: self.seed,
                    ..SftConfig::default()
                };
                sft_from(model, &examples, &config, checkpoint, log)
            }
        }
    }

    /// The weights and the summary of a run from start to end, without its seconds.
    fn whole(&self) -> (Vec<Vec<f32>>, TrainSummary) {
        let model = self.model();
        let summary = self.go(&model, None, &mut |_, _| Ok(())).unwrap();
        assert_eq!(summary.steps, 8);
        assert_ne!(tiny::weights(&model), tiny::weights(&self.model()), "{self:?} moved nothing");
        (tiny::weights(&model), TrainSummary { seconds: 0.0, ..summary })
    }
}

/// Ends a run as a kill would: the log fails at this step.
fn kill_at(
    step: u64,
) -> impl FnMut(u64, &[(&str, f64)]) -> std::result::Result<(), vul2safe_train::CallbackError> {
    move |at, _| if at == step { Err("killed".into()) } else { Ok(()) }
}

#[test]
fn two_runs_and_runs_with_gradient_checkpointing_give_the_same_bits() {
    for run in Run::all() {
        let whole = run.whole();
        assert_eq!(run.whole(), whole, "{run:?}");
        assert_eq!(Run { checkpointing: true, ..run.clone() }.whole(), whole, "{run:?}");
        assert_ne!(Run { seed: 5, ..run.clone() }.whole().0, whole.0, "{run:?}");
    }
}

#[test]
fn a_stage_leaves_gradient_checkpointing_as_it_was() {
    let run = Run { checkpointing: true, ..Run::all()[2].clone() };
    let model = run.model();
    let mut during = None;
    run.go(&model, None, &mut |_, _| {
        during = Some(model.checkpointing());
        Ok(())
    })
    .unwrap();
    assert_eq!((during, model.checkpointing()), (Some(true), false));
}

#[test]
fn a_resumed_training_equals_an_unbroken_one_to_the_bit() {
    for run in Run::all() {
        let whole = run.whole();
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("state"), 2);
        // Killed twice, and the second time between the two renames of a write.
        for (killed, first) in [(4, 0), (6, 4)] {
            let mut steps = Vec::new();
            let mut kill = kill_at(killed);
            let error = run.go(&run.model(), Some(&checkpoint), &mut |step, metrics| {
                steps.push(step);
                kill(step, metrics)
            });
            assert_eq!(error.unwrap_err().to_string(), "killed");
            assert_eq!(steps, (first..=killed).collect::<Vec<_>>(), "{run:?}");
        }
        std::fs::rename(&checkpoint.folder, folder.path().join("state.previous")).unwrap();
        std::fs::create_dir(folder.path().join("state.partial")).unwrap();
        let model = run.model();
        // With another setting that changes no number.
        let resumed = Run { checkpointing: true, ..run.clone() };
        let mut steps = 0;
        let summary = resumed.go(&model, Some(&checkpoint), &mut |_, _| {
            steps += 1;
            Ok(())
        });
        assert_eq!(steps, 2);
        let summary = TrainSummary { seconds: 0.0, ..summary.unwrap() };
        assert_eq!((tiny::weights(&model), summary), whole, "{run:?}");

        // A run that had ended gives its result again without a step.
        let model = run.model();
        let summary = run.go(&model, Some(&checkpoint), &mut kill_at(0)).unwrap();
        let summary = TrainSummary { seconds: 0.0, ..summary };
        assert_eq!((tiny::weights(&model), summary), whole, "{run:?}");

        checkpoint.remove().unwrap();
        checkpoint.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn checkpoints_of_something_else_or_cut_short_are_refused_and_nothing_moves() {
    let run = Run::all()[3].clone();
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new(folder.path().join("state"), 1);
    run.go(&run.model(), Some(&checkpoint), &mut kill_at(3)).unwrap_err();
    let refused = |run: &Run, model: &Model, says: &str| {
        let before = tiny::weights(model);
        let error = run.go(model, Some(&checkpoint), &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}");
        assert_eq!(tiny::weights(model), before, "{error}");
    };
    refused(&Run { learning_rate: 2e-2, ..run.clone() }, &run.model(), "`learning_rate: 0.01`");
    refused(&Run { seed: 5, ..run.clone() }, &run.model(), "`seed: 4`");
    refused(&Run { data: 1, ..run.clone() }, &run.model(), "other data");
    refused(&Run { stage: Stage::Pretrain, ..run.clone() }, &run.model(), "the stage sft");
    refused(&run, &tiny::adapted(&tiny::model(2), 0.2), "another base");
    refused(&run, &tiny::adapted(&tiny::model(1), 0.3), "`dropout: 0.2`");
    refused(&run, &tiny::model(1), "other settings");
    for file in ["state.json", "parameters.safetensors", "optimizer.safetensors"] {
        let path = checkpoint.folder.join(file);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            refused(&run, &run.model(), file);
        }
        std::fs::write(&path, bytes).unwrap();
    }
    run.go(&run.model(), Some(&checkpoint), &mut |_, _| Ok(())).unwrap();
}

#[test]
fn a_poisoned_weight_is_named_and_the_last_good_checkpoint_stays() {
    for run in Run::all() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("state"), 1);
        let model = run.model();
        let poisoned = model.parameters()[3].clone();
        let mut left = Vec::new();
        let error = run.go(&model, Some(&checkpoint), &mut |step, _| {
            if step == 4 {
                let mut numbers = poisoned.numbers();
                numbers[7] = f32::NAN;
                poisoned.set(&numbers)?;
            }
            left = tiny::weights(&model);
            Ok(())
        });
        let error = error.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, TrainError::NotFinite { step: 5, .. }), "{text}");
        assert!(
            text.contains(&format!("number 7 of {}", poisoned.name())) && text.contains("items "),
            "{text}"
        );
        let bits =
            |weights: Vec<Vec<f32>>| -> Vec<u32> { weights.concat().iter().map(|n| n.to_bits()).collect() };
        assert_eq!(bits(tiny::weights(&model)), bits(left), "the failed step moved something");

        // From the checkpoint the run goes on as if nothing had been.
        let model = run.model();
        run.go(&model, Some(&checkpoint), &mut |_, _| Ok(())).unwrap();
        assert_eq!(tiny::weights(&model), run.whole().0, "{run:?}");
    }
}

#[test]
fn an_absurd_learning_rate_leaves_the_last_good_checkpoint() {
    // The step after the first finds weights that are finite and useless: no checkpoint may hold them.
    let run = Run { learning_rate: 1e30, ..Run::all()[0].clone() };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::new(folder.path().join("state"), 1);
    let model = run.model();
    let mut left = Vec::new();
    let error = run.go(&model, Some(&checkpoint), &mut |_, _| {
        left = tiny::weights(&model);
        Ok(())
    });
    let error = error.unwrap_err();
    let TrainError::NotFinite { step, .. } = error else { panic!("{error}") };
    assert_eq!(tiny::weights(&model), left);
    let held = std::fs::read_to_string(checkpoint.folder.join("state.json"));
    assert!(step >= 1 && (step > 1 || held.is_err()), "{step}: {held:?}");
    let step_line = format!("\"step\": {}", step - 1);
    assert!(held.map_or(step == 1, |held| held.contains(&step_line)));
}

/// +1 for ids below 60, −1 above 199.
fn by_id(rollouts: &[Rollout]) -> Vec<Score> {
    let reward = |id: &u32| f32::from(u8::from(*id < 60)) - f32::from(u8::from(*id > 199));
    let score = |rollout: &Rollout| {
        let rewards: Vec<f32> = rollout.response().iter().map(reward).collect();
        let (total, reasons) = (rewards.iter().sum(), vec![Vec::new(); rewards.len()]);
        Score::Scored(Scored { rewards, reasons, total, ..Scored::default() })
    };
    rollouts.iter().map(score).collect()
}

fn prompts() -> Vec<PpoPrompt> {
    (0..5)
        .map(|index| PpoPrompt { id: format!("p{index}"), ids: vec![210 + index, 220, 230 + index] })
        .collect()
}

fn ppo_config(gradient_checkpointing: bool) -> PpoConfig {
    PpoConfig {
        updates: 4,
        rollouts_per_update: 12,
        maximum_new_tokens: 8,
        tokens_per_microbatch: 40,
        gradient_checkpointing,
        optimizer: optimizer(),
        stop_ids: vec![2],
        seed: 11,
        ..PpoConfig::default()
    }
}

/// The actor before PPO and the reference: with an adapter the base that both share, else a model of its own.
fn actor_and_reference(adapter: bool) -> (Model, Model) {
    if !adapter {
        return (tiny::model(3), tiny::model(3));
    }
    let actor = tiny::adapted(&tiny::model(3), 0.2);
    let reference = actor.without_adapter().unwrap();
    (actor, reference)
}

fn whole_ppo(adapter: bool, checkpointing: bool) -> Vec<Vec<f32>> {
    let (actor, reference) = actor_and_reference(adapter);
    ppo(&actor, &reference, &prompts(), &ppo_config(checkpointing), &mut by_id, &mut |event| {
        let metric = |name| event.metrics.iter().find(|(known, _)| *known == name).unwrap().1;
        // Nothing is dropped in PPO, whatever the adapter's dropout.
        assert_eq!(metric("first_ratio_error"), 0.0);
        assert!(event.update > 0 || metric("kl_reference").abs() < 1e-6);
        Ok(Control::Continue)
    })
    .unwrap();
    assert_eq!(tiny::weights(&reference), tiny::weights(&tiny::model(3)), "the reference moved");
    tiny::weights(&actor)
}

#[test]
fn ppo_gives_the_same_bits_again_with_gradient_checkpointing_and_after_a_resume() {
    for adapter in [false, true] {
        let whole = whole_ppo(adapter, false);
        assert_eq!(whole_ppo(adapter, false), whole);
        assert_eq!(whole_ppo(adapter, true), whole);

        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("ppo");
        let config = ppo_config(false);
        let (actor, reference) = actor_and_reference(adapter);
        ppo(&actor, &reference, &prompts(), &config, &mut by_id, &mut |event| {
            event.state.save(&checkpoint, event.actor)?;
            Ok(if event.update == 1 { Control::Stop } else { Control::Continue })
        })
        .unwrap();
        drop(actor);
        assert_eq!(checkpoint.join("adapter").exists(), adapter);
        assert_eq!(checkpoint.join("model").exists(), !adapter);
        if adapter {
            let error = PpoState::load(&checkpoint, &config, None).unwrap_err();
            assert!(error.to_string().contains("was not given"), "{error}");
            let error = PpoState::load(&checkpoint, &config, Some(&tiny::model(9))).unwrap_err();
            assert!(matches!(error, TrainError::Model(_)) && error.to_string().contains("base"), "{error}");
        }
        let other = PpoConfig { lambda: 0.9, ..config.clone() };
        let error = PpoState::load(&checkpoint, &other, Some(&reference)).unwrap_err();
        assert!(error.to_string().contains("`lambda: 0.95`") && error.hint().is_some(), "{error}");

        let (actor, mut state) = PpoState::load(&checkpoint, &config, Some(&reference)).unwrap().unwrap();
        let summary = ppo_from(&mut state, &actor, &reference, &prompts(), &config, &mut by_id, &mut |_| {
            Ok(Control::Continue)
        });
        assert_eq!(summary.unwrap().updates, 4);
        assert_eq!(tiny::weights(&actor), whole, "with an adapter: {adapter}");

        // A policy that broke is not saved over one that had not.
        let broken = &actor.parameters()[1];
        broken.set(&vec![f32::INFINITY; broken.count()]).unwrap();
        let error = state.save(&checkpoint, &actor).unwrap_err();
        assert!(error.to_string().contains(broken.name()), "{error}");
        assert!(PpoState::load(&checkpoint, &config, Some(&reference)).is_ok());
    }
}
