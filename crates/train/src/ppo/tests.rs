//! What only the inside can see: gradients of minibatches.

use vul2safe_model::{Config, Model, Parameter};
use vul2safe_reward::{Score, Scored};

use super::{
    PpoConfig, PpoState, Rollout, ValueConfig, ValueStart,
    experience::{self, Episode},
    update::minibatch_gradients,
};

fn model() -> Model {
    Model::random(Config::new(64, 32, 48, 2, 4, 2), 5).unwrap()
}

/// Six answers of different lengths with a reward here and there.
fn rollouts() -> (Vec<Rollout>, Vec<Score>) {
    (0..6u32)
        .map(|index| {
            let ids: Vec<u32> = (0..8 + 3 * index).map(|place| (place * 7 + index * 11) % 64).collect();
            let prompt_length = 3 + index as usize % 3;
            let rewards: Vec<f32> = (prompt_length..ids.len())
                .map(|place| if place % 4 == 0 { 1.0 - index as f32 * 0.5 } else { 0.0 })
                .collect();
            let log_probs = vec![0.0; rewards.len()];
            let reasons = vec![Vec::new(); rewards.len()];
            let score = Scored { total: rewards.iter().sum(), rewards, reasons, ..Scored::default() };
            (Rollout { prompt: 0, ids, prompt_length, log_probs, finished: true }, Score::Scored(score))
        })
        .unzip()
}

fn numbers(parameters: &[Parameter]) -> Vec<f32> {
    parameters.iter().flat_map(|parameter| parameter.gradient().unwrap()).collect()
}

/// Gradients of actor and value head for one minibatch of all episodes, in the given micro-batches.
fn gradients(
    model: &Model,
    episodes: &[Episode],
    micro: Vec<Vec<usize>>,
    state: &PpoState,
    config: &PpoConfig,
) -> Vec<f32> {
    minibatch_gradients(model, episodes, &micro, state, config).unwrap();
    let mut all = numbers(model.parameters());
    all.extend(numbers(state.head.parameters()));
    all
}

fn prepared(config: &PpoConfig) -> (Model, PpoState, Vec<Episode>) {
    let model = model();
    let mut state = PpoState::new(&model, config).unwrap();
    // A head with a weight everywhere, so that its hidden layer gets a gradient.
    let last = state.head.parameters().len() - 2;
    let output = &state.head.parameters()[last];
    output.set(&vec![1.0; output.count()]).unwrap();
    state.value_started = true;
    let (rollouts, scores) = rollouts();
    let (episodes, unscored, _) = experience::episodes(&rollouts, &scores, 1, 0).unwrap();
    assert_eq!(unscored, 0);
    let experience = experience::gather(&model, &model, episodes, &mut state, config).unwrap();
    (model, state, experience.episodes)
}

#[test]
fn micro_batches_add_up_to_one_batch() {
    for to_trunk in [false, true] {
        for aggregation in [
            crate::math::Aggregation::TokenMean,
            crate::math::Aggregation::SequenceMeanTokenSum,
            crate::math::Aggregation::SequenceMeanTokenMean,
        ] {
            let config = PpoConfig {
                aggregation,
                entropy_coefficient: 0.1,
                value: ValueConfig { width: 4, gradient_to_trunk: to_trunk, ..ValueConfig::default() },
                ..PpoConfig::default()
            };
            let (model, state, episodes) = prepared(&config);
            let whole = gradients(&model, &episodes, vec![vec![0, 1, 2, 3, 4, 5]], &state, &config);
            let parts =
                gradients(&model, &episodes, vec![vec![3, 0], vec![5], vec![1, 4, 2]], &state, &config);
            let size = whole.iter().fold(0.0f32, |size, value| size.max(value.abs()));
            assert!(size > 1e-3);
            for (whole, parts) in whole.iter().zip(&parts) {
                assert!((whole - parts).abs() < 1e-5 * (1.0 + size), "{whole} is not {parts}");
            }
        }
    }
}

#[test]
fn the_value_loss_reaches_the_trunk_only_when_asked() {
    let gradient = |gradient_to_trunk, coefficient| {
        let value = ValueConfig { width: 4, gradient_to_trunk, coefficient, ..ValueConfig::default() };
        let config = PpoConfig { value, ..PpoConfig::default() };
        let (model, state, episodes) = prepared(&config);
        minibatch_gradients(&model, &episodes, &vec![(0..6).collect()], &state, &config).unwrap();
        numbers(model.parameters())
    };
    assert_eq!(gradient(false, 0.5), gradient(false, 5.0));
    assert_ne!(gradient(true, 0.5), gradient(true, 5.0));
}

#[test]
fn prompts_and_other_answers_have_no_part_in_an_answers_numbers() {
    let config = PpoConfig { whiten_advantages: false, ..PpoConfig::default() };
    let (_, _, together) = prepared(&config);
    let model = model();
    let (rollouts, scores) = rollouts();
    for place in 0..rollouts.len() {
        let mut state = PpoState::new(&model, &config).unwrap();
        let last = state.head.parameters().len() - 2;
        let output = state.head.parameters()[last].clone();
        output.set(&vec![1.0; output.count()]).unwrap();
        state.value_started = true;
        let (alone, _, _) =
            experience::episodes(&rollouts[place..=place], &scores[place..=place], 1, 0).unwrap();
        let alone = &experience::gather(&model, &model, alone, &mut state, &config).unwrap().episodes[0];
        let pairs = [
            (&alone.old_log_prob, &together[place].old_log_prob),
            (&alone.old_values, &together[place].old_values),
            (&alone.advantages, &together[place].advantages),
        ];
        for (alone, together) in pairs {
            assert_eq!(alone.len(), rollouts[place].response().len());
            for (alone, together) in alone.iter().zip(together) {
                assert!((alone - together).abs() < 1e-4, "{alone} is not {together}");
            }
        }
    }
}

#[test]
fn the_value_head_starts_at_the_mean_return() {
    let model = model();
    let (rollouts, scores) = rollouts();
    let values = |start, gamma| {
        let config = PpoConfig {
            gamma,
            value: ValueConfig { start, ..ValueConfig::default() },
            ..PpoConfig::default()
        };
        let mut state = PpoState::new(&model, &config).unwrap();
        let (episodes, _, _) = experience::episodes(&rollouts, &scores, 1, 0).unwrap();
        let experience = experience::gather(&model, &model, episodes, &mut state, &config).unwrap();
        experience.episodes.iter().flat_map(|episode| episode.old_values.clone()).collect::<Vec<f32>>()
    };
    assert!(values(ValueStart::Zero, 1.0).iter().all(|value| *value == 0.0));
    // With γ = 0 the return of a token is its own reward.
    let rewards: Vec<f32> = scores
        .iter()
        .flat_map(|score| match score {
            Score::Scored(scored) => scored.rewards.clone(),
            Score::Unscored { .. } => Vec::new(),
        })
        .collect();
    let mean = rewards.iter().sum::<f32>() / rewards.len() as f32;
    assert!(values(ValueStart::MeanReturn, 0.0).iter().all(|value| (value - mean).abs() < 1e-6));
}
