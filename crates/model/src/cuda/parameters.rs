//! Parameters on the device, all in one array, with their gradients and the optimiser's moments beside them.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::array::{Array, View};
use super::driver::{Driver, Precision};
use super::launch::Kernels;
use super::sizes::Shapes;
use crate::device::DeviceError;
use crate::device::Part;

/// One parameter's place.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

/// Parameters that lie one after the other: first those that decay, then those that do not.
pub(crate) struct Parameters<D: Driver> {
    pub(crate) entries: Vec<Entry>,
    places: HashMap<String, usize>,
    length: usize,
    /// Numbers that decay.
    pub(crate) decaying: usize,
    /// What the products read.
    working: Array<D>,
    /// f32 copies, where `working` is bf16 and is trained.
    master: Option<Array<D>>,
    trained: bool,
    /// Made when they are first needed, and kept.
    gradient: OnceLock<Array<D>>,
    moments: OnceLock<(Array<D>, Array<D>)>,
}

impl<D: Driver> Parameters<D> {
    /// Loads every parameter from `tensor`, which gives the numbers of a name, row by row.
    pub(crate) fn new(
        kernels: &Kernels<D>,
        (decaying, rest): (Shapes, Shapes),
        trained: bool,
        tensor: &mut dyn FnMut(&str) -> Result<Vec<f32>, DeviceError>,
    ) -> Result<Parameters<D>, DeviceError> {
        let (mut entries, mut places, mut length, mut decays) = (Vec::new(), HashMap::new(), 0, 0);
        let count = decaying.len();
        for (at, (name, shape)) in decaying.into_iter().chain(rest).enumerate() {
            let numbers = shape.iter().product();
            places.insert(name.clone(), at);
            entries.push(Entry { name, shape, offset: length, length: numbers });
            length += numbers;
            if at < count {
                decays = length;
            }
        }
        let working = kernels.reals(length)?;
        let rounded = kernels.driver.precision() == Precision::Bf16;
        let master = if trained && rounded { Some(kernels.floats(length)?) } else { None };
        let parameters = Parameters {
            entries,
            places,
            length,
            decaying: decays,
            working,
            master,
            trained,
            gradient: OnceLock::new(),
            moments: OnceLock::new(),
        };
        for entry in &parameters.entries {
            let values = tensor(&entry.name)?;
            if values.len() != entry.length {
                return Err(DeviceError::input(format!(
                    "{} has {} numbers, not {:?}",
                    entry.name,
                    values.len(),
                    entry.shape
                )));
            }
            parameters.write_value(kernels, entry, &values)?;
        }
        Ok(parameters)
    }

    fn write_value(&self, kernels: &Kernels<D>, entry: &Entry, values: &[f32]) -> Result<(), DeviceError> {
        let working = self.working.part(entry.offset, entry.length);
        match &self.master {
            None => kernels.write(working, values),
            Some(master) => {
                let master = master.part(entry.offset, entry.length);
                kernels.write(master, values)?;
                kernels.narrow(working, master)
            }
        }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, DeviceError> {
        let at = self
            .places
            .get(name)
            .ok_or_else(|| DeviceError::input(format!("there is no parameter {name}")))?;
        Ok(&self.entries[*at])
    }

    /// Offset of a parameter that the engine itself named.
    pub(crate) fn offset(&self, name: &str) -> Result<usize, DeviceError> {
        Ok(self.entry(name)?.offset)
    }

    /// What the products read, from `offset` on.
    pub(crate) fn value(&self, offset: usize, length: usize) -> View<'_, D> {
        self.working.part(offset, length)
    }

    /// The gradient's place, if these parameters are trained and a gradient was begun.
    pub(crate) fn gradient(&self, offset: usize, length: usize) -> Option<View<'_, D>> {
        self.gradient.get().map(|gradient| gradient.part(offset, length))
    }

    pub(crate) fn all_gradients(&self) -> Option<View<'_, D>> {
        self.gradient.get().map(Array::view)
    }

    pub(crate) fn is_trained(&self) -> bool {
        self.trained
    }

    /// Makes room for gradients, which are zero then, if there is none yet.
    pub(crate) fn begin_gradient(&self, kernels: &Kernels<D>) -> Result<(), DeviceError> {
        if self.trained && self.gradient.get().is_none() {
            // Another thread may have been faster; its zeros are as good.
            let _ = self.gradient.set(kernels.zeros(self.length)?);
        }
        Ok(())
    }

    pub(crate) fn clear_gradient(&self, kernels: &Kernels<D>) -> Result<(), DeviceError> {
        self.gradient.get().map_or(Ok(()), |gradient| kernels.clear(gradient.view()))
    }

    /// Makes room for moments, which are zero then, if there is none yet.
    pub(crate) fn begin_moments(&self, kernels: &Kernels<D>) -> Result<(), DeviceError> {
        if self.trained && self.moments.get().is_none() {
            let _ = self.moments.set((kernels.zeros(self.length)?, kernels.zeros(self.length)?));
        }
        Ok(())
    }

    pub(crate) fn moments(&self) -> Option<(View<'_, D>, View<'_, D>)> {
        self.moments.get().map(|(mean, square)| (mean.view(), square.view()))
    }

    /// The f32 copy that is updated, and the rounded copy where that is another.
    pub(crate) fn updated(&self) -> (View<'_, D>, Option<View<'_, D>>) {
        match &self.master {
            Some(master) => (master.view(), Some(self.working.view())),
            None => (self.working.view(), None),
        }
    }

    fn part(&self, part: Part, entry: &Entry) -> Result<View<'_, D>, DeviceError> {
        let absent = |what: &str| DeviceError::input(format!("{} has no {what}", entry.name));
        let array = match part {
            Part::Value => self.master.as_ref().unwrap_or(&self.working),
            Part::Gradient => self.gradient.get().ok_or_else(|| absent("gradient"))?,
            Part::Mean => &self.moments.get().ok_or_else(|| absent("moments"))?.0,
            Part::Square => &self.moments.get().ok_or_else(|| absent("moments"))?.1,
        };
        Ok(array.part(entry.offset, entry.length))
    }

    pub(crate) fn read(&self, kernels: &Kernels<D>, name: &str, part: Part) -> Result<Vec<f32>, DeviceError> {
        let entry = self.entry(name)?;
        let moment = matches!(part, Part::Mean | Part::Square);
        if moment && self.trained && self.moments.get().is_none() {
            // Before the first step there is no room for them yet, and they are zero.
            return Ok(vec![0.0; entry.length]);
        }
        kernels.read(self.part(part, entry)?)
    }

    /// The first numbers of a value.
    pub(crate) fn read_first(
        &self,
        kernels: &Kernels<D>,
        name: &str,
        count: usize,
    ) -> Result<Vec<f32>, DeviceError> {
        let entry = self.entry(name)?;
        kernels.read(self.part(Part::Value, entry)?.part(0, count.min(entry.length)))
    }

    /// A copy in memory of its own, without gradients and moments.
    pub(crate) fn duplicate(&self, kernels: &Kernels<D>) -> Result<Parameters<D>, DeviceError> {
        let working = kernels.reals(self.length)?;
        kernels.copy(self.working.view(), working.view())?;
        let master = match &self.master {
            None => None,
            Some(master) => {
                let copy = kernels.floats(self.length)?;
                kernels.copy(master.view(), copy.view())?;
                Some(copy)
            }
        };
        Ok(Parameters {
            entries: self.entries.clone(),
            places: self.places.clone(),
            length: self.length,
            decaying: self.decaying,
            working,
            master,
            trained: self.trained,
            gradient: OnceLock::new(),
            moments: OnceLock::new(),
        })
    }

    pub(crate) fn write(
        &self,
        kernels: &Kernels<D>,
        name: &str,
        part: Part,
        values: &[f32],
    ) -> Result<(), DeviceError> {
        match part {
            Part::Gradient => self.begin_gradient(kernels)?,
            Part::Mean | Part::Square => self.begin_moments(kernels)?,
            Part::Value => {}
        }
        let entry = self.entry(name)?;
        match part {
            Part::Value if values.len() == entry.length => self.write_value(kernels, entry, values),
            _ => kernels.write(self.part(part, entry)?, values),
        }
    }
}
