//! The engine beside that of the CPU, on a random model that went through a file.

use super::emulator::Emulator;
use super::golden::tensors;
use super::{Open, batch, distance};
use crate::cuda::*;
use crate::{Config, Model, Packed};

pub(super) fn check<D: Driver>(open: Open<D>) {
    let config = Config::new(211, 64, 96, 2, 4, 2);
    let model = Model::random(config, 5).expect("a model");
    let folder = tempfile::tempdir().expect("a temporary folder");
    model.save(folder.path()).expect("saved");
    let weights = tensors(folder.path().join("model.safetensors"));
    let sizes = Sizes::of(model.config()).expect("sizes that the kernels compute");
    let (ids, offsets) = batch(&sizes, &[130, 1, 40], 1);
    let parts: Vec<&[u32]> =
        offsets.windows(2).map(|pair| &ids[pair[0] as usize..pair[1] as usize]).collect();
    let logits = model.logits(&Packed::new(&parts)).expect("logits");
    let want: Vec<f32> = logits.flatten_all().and_then(|logits| logits.to_vec1()).expect("f32 numbers");
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
        let settings = Settings { precision, trained: Trained::Nothing, ..Settings::default() };
        let Some(driver) = open(precision, sizes.head_width) else { return };
        let engine =
            Engine::new(driver, sizes.clone(), settings, &mut from_map(&weights)).expect("the model loads");
        let pass = engine.forward(&ids, &offsets, PassOptions::default()).expect("forward");
        let off = distance(&engine.logits(&pass).expect("logits"), &want);
        println!("{precision:?}: logits {off:.1e} from the CPU's");
        assert!(off <= tolerance, "{precision:?}: logits are {off} apart");
    }
}

#[test]
fn logits_are_those_of_the_cpu() {
    check(&Emulator::new);
}
