//! From real vulnerabilities to a measured, safer code model: the configuration, the stages in order, the commands.
//!
//! This crate joins the rooms; it computes nothing that belongs to one of them. `recipe` is what the user asks for,
//! `stages` what is done and in which order, `experiment` the whole of it for several seeds, `scoring` where the judge's evidence meets the reward, `commands` what
//! each word on the command line does.
//!
//! ```
//! use std::path::Path;
//! let recipe = vul2safe::recipe::parse_recipe("seed = 3", Path::new("recipe.toml"), &["sft.maximum_tokens=300".into()])?;
//! assert_eq!((recipe.seed, recipe.sft.maximum_tokens), (3, 300));
//! # Ok::<(), vul2safe::failure::Failure>(())
//! ```

pub mod cli;
pub mod commands;
pub mod experiment;
pub mod failure;
pub mod machine;
pub mod memory;
pub mod plan;
pub mod progress;
pub mod recipe;
pub mod scoring;
pub mod stages;
pub mod words;
