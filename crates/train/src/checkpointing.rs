//! Gradient checkpointing for the time of a stage.

use vul2safe_model::Model;

/// Sets a model's gradient checkpointing; dropping it sets what was set before.
pub(crate) struct Checkpointing<'a> {
    model: &'a Model,
    before: bool,
}

impl<'a> Checkpointing<'a> {
    pub(crate) fn set(model: &'a Model, on: bool) -> Self {
        let before = model.checkpointing();
        model.set_checkpointing(on);
        Self { model, before }
    }
}

impl Drop for Checkpointing<'_> {
    fn drop(&mut self) {
        self.model.set_checkpointing(self.before);
    }
}
