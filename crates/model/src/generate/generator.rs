//! The queue of requests, wherever the model lies.

use super::on_device::OnDevice;
use super::on_host::OnHost;
use super::{Event, GenerateOptions, SamplingOptions};
use crate::decoder::Model;
use crate::error::ModelError;

/// A queue of requests that share passes through the model.
///
/// ```
/// use vul2safe_model::{Config, Event, GenerateOptions, Model, SamplingOptions};
///
/// # fn main() -> Result<(), vul2safe_model::ModelError> {
/// let model = Model::random(Config::new(64, 32, 64, 2, 4, 2), 7)?;
/// let mut generator = model.generator(GenerateOptions::default())?;
/// let options = SamplingOptions { maximum_new_tokens: 3, ..SamplingOptions::default() };
/// let first = generator.submit(&[1, 2, 3], &options)?;
/// let mut ids = 0;
/// while !generator.is_idle() {
///     for event in generator.step()? {
///         match event {
///             Event::Token { request, .. } if request == first => ids += 1,
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(ids, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Generator<'m>(Queue<'m>);

enum Queue<'m> {
    Host(Box<OnHost<'m>>),
    Device(Box<OnDevice<'m>>),
}

impl std::fmt::Debug for Queue<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Queue::Host(_) => "on the processor",
            Queue::Device(_) => "on a device",
        })
    }
}

impl<'m> Generator<'m> {
    pub(super) fn new(model: &'m Model, together: GenerateOptions) -> Result<Generator<'m>, ModelError> {
        Ok(Generator(match model.device() {
            None => Queue::Host(Box::new(OnHost::new(model, together)?)),
            Some(device) => Queue::Device(Box::new(OnDevice::new(model.config(), &*device.model, together))),
        }))
    }

    /// Puts a request into the queue; gives its number. Requests are numbered from 0 in the order in which they are
    /// submitted, and begin in that order too, except that one whose prompt is already being read for another joins that.
    ///
    /// # Errors
    /// Options out of range, stop strings without a table of bytes, an empty prompt, an id outside the vocabulary, a prompt
    /// that leaves no position free. Nothing is queued then.
    pub fn submit(&mut self, prompt: &[u32], options: &SamplingOptions) -> Result<usize, ModelError> {
        match &mut self.0 {
            Queue::Host(queue) => queue.submit(prompt, options),
            Queue::Device(queue) => queue.submit(prompt, options),
        }
    }

    /// Whether no request waits or runs.
    pub fn is_idle(&self) -> bool {
        match &self.0 {
            Queue::Host(queue) => queue.is_idle(),
            Queue::Device(queue) => queue.is_idle(),
        }
    }

    /// Ends a request early, with the event that says so; nothing where it has ended or never was.
    pub fn cancel(&mut self, request: usize) -> Option<Event> {
        match &mut self.0 {
            Queue::Host(queue) => queue.cancel(request),
            Queue::Device(queue) => queue.cancel(request),
        }
    }

    /// One pass: admits what fits, reads some of the prompts, and generates one id for every request that is running.
    ///
    /// # Errors
    /// [`ModelError::NotFiniteLogits`] with the number of a request whose logits are not finite: that request is dropped, and the
    /// others can go on. Where several failed in one pass, each of the next steps reports one of them. On a device,
    /// [`ModelError::Device`] where memory does not suffice or a call failed.
    pub fn step(&mut self) -> Result<Vec<Event>, ModelError> {
        match &mut self.0 {
            Queue::Host(queue) => queue.step(),
            Queue::Device(queue) => queue.step(),
        }
    }
}
