//! `train`.

use super::{Session, check_inputs, println, recipe, with_device};
use crate::cli::{Method, TrainArguments};
use crate::failure::{Failure, Result};
use crate::recipe::SourceKind;
use crate::stages::{RunOptions, Until, run_recipe};

pub(super) fn run(session: &Session, arguments: &TrainArguments) -> Result<()> {
    let set = with_device(&arguments.set, arguments.device);
    let mut recipe = recipe(arguments.recipe.as_deref(), &set)?;
    recipe.data.source = SourceKind::PrimevulPlus;
    recipe.data.path = Some(arguments.data.clone());
    recipe.model.path = Some(arguments.model.clone());
    if arguments.base.is_some() {
        recipe.model.base.clone_from(&arguments.base);
    }
    if arguments.skip_sft {
        if arguments.method == Method::Sft {
            return Err(
                Failure::user("`train sft --skip-sft` would do nothing").with_hint("leave out --skip-sft")
            );
        }
        recipe.sft.enabled = false;
    }
    let until = match arguments.method {
        Method::Sft => {
            recipe.arms.clear();
            Until::Sft
        }
        Method::Ppo => Until::Arms,
    };
    session.start_threads(&recipe)?;
    check_inputs(&recipe, &arguments.out)?;
    let options = RunOptions {
        out: Some(arguments.out.clone()),
        allow_unprotected: session.allow_unprotected,
        until,
        ignore_memory_estimate: arguments.ignore_memory_estimate,
        keep_going: false,
    };
    let names: Vec<String> = match arguments.method {
        Method::Sft => vec!["sft".to_owned()],
        Method::Ppo => recipe.arms.keys().cloned().collect(),
    };
    let folder = run_recipe(&recipe, &options, &session.progress)?;
    for name in names {
        println(&folder.join("checkpoints").join(name).display().to_string())?;
    }
    Ok(())
}
