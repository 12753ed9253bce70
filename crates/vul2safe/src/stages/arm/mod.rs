//! Stage 5: one arm, from the SFT checkpoint.

mod data;
mod ppo;
mod preference;
mod requests;
mod supervised;
mod validation;

use serde_json::Value;
use vul2safe_run::RunFolder;
use vul2safe_train::PpoState;

pub use validation::{ValidationPoint, family, of_family, validation_file};

use super::Context;
use crate::failure::Result;
use crate::recipe::{ArmMethod, Recipe};

/// The key of a journal's entry that says why an arm collapsed.
const COLLAPSED: &str = "collapsed";

/// The stage of the arm `name`.
pub fn run(context: &Context<'_>, name: &str) -> Result<Value> {
    let arm = &context.recipe.arms[name];
    let settings = arm.settings(name, context.recipe)?;
    match arm.method {
        ArmMethod::Ppo => ppo::run(context, name, arm, &settings),
        ArmMethod::MaskedSft | ArmMethod::Unlikelihood => supervised::run(context, name, arm, &settings),
        ArmMethod::Preference => preference::run(context, name, arm, &settings),
    }
}

/// Reads the harmless requests that the arms ask for: what is wrong with them is said before a model is trained for hours.
///
/// # Errors
/// As the stage's own.
pub fn check_requests(recipe: &Recipe) -> Result<()> {
    for (name, arm) in &recipe.arms {
        let share = arm.settings(name, recipe)?.harmless_share;
        requests::harmless_items(recipe, share).map_err(|failure| failure.at(format!("[arms.{name}]")))?;
    }
    Ok(())
}

/// Why the policy of the arm `name` collapsed, where it did and the run went on without it.
pub fn collapsed(run: &RunFolder, name: &str) -> Option<String> {
    Some(run.finished(name)?.summary.get(COLLAPSED)?.as_str()?.to_owned())
}

/// Removes what the finished arm `name` no longer needs to continue from. Only once the journal has it as finished:
/// a kill half-way through would otherwise leave a checkpoint that is neither whole nor gone.
pub fn forget_training(context: &Context<'_>, name: &str) -> Result<()> {
    match context.recipe.arms[name].method {
        ArmMethod::Ppo => Ok(PpoState::remove(&ppo::training_checkpoint(context, name))?),
        ArmMethod::MaskedSft | ArmMethod::Unlikelihood => {
            Ok(supervised::training_checkpoint(context, name).remove()?)
        }
        // It is short, and starts again.
        ArmMethod::Preference => Ok(()),
    }
}
