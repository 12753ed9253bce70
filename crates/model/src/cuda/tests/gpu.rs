//! The same checks on a GPU. Each test that cannot run says why.

use super::golden::{MODELS, check, check_adapter, check_steps};
use super::{attention, host};
use super::{batch, distance, engine, small};
use crate::cuda::launch::HeadCounts;
use crate::cuda::{CudaDriver, DeviceError, PassOptions, Precision, Settings, Trained};

/// The first GPU, or the reason why there is none, printed.
pub(super) fn gpu(precision: Precision, head_width: usize) -> Option<CudaDriver> {
    match CudaDriver::new(0, precision, head_width) {
        Ok(driver) => Some(driver),
        Err(DeviceError::Absent { reason }) => {
            println!("skipped: no CUDA device ({reason})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn golden_numbers_on_a_gpu() {
    for name in MODELS {
        check(name, &gpu);
        check_steps(name, &gpu);
        check_adapter(name, &gpu);
    }
}

#[test]
fn attention_on_a_gpu() {
    let heads = HeadCounts { queries: 6, keys: 2 };
    for (precision, width) in
        [(Precision::F32, 64), (Precision::Bf16, 64), (Precision::Bf16, 128), (Precision::Bf16, 8)]
    {
        attention::check(&gpu, precision, width, &[1, 64, 65, 130, 400], heads);
    }
}

#[test]
fn emulator_and_gpu_agree() {
    for precision in [Precision::F32, Precision::Bf16] {
        let sizes = small(64, true, true);
        let settings = Settings { precision, trained: Trained::Nothing, ..Settings::default() };
        let Some(on_gpu) = engine(&gpu, &sizes, settings.clone(), 3) else { return };
        let Some(here) = engine(&super::emulator::Emulator::new, &sizes, settings, 3) else { return };
        let (ids, offsets) = batch(&sizes, &[100, 3], 1);
        let hidden = on_gpu.forward(&ids, &offsets, PassOptions::default()).expect("forward");
        let expected = here.forward(&ids, &offsets, PassOptions::default()).expect("forward");
        let off =
            distance(&on_gpu.hidden(&hidden).expect("hidden"), &here.hidden(&expected).expect("hidden"));
        println!("{precision:?}: {off:.1e}");
        assert!(off <= if precision == Precision::F32 { 1e-5 } else { 1e-2 }, "{precision:?}: {off}");
    }
}

#[test]
fn logits_of_the_cpu_on_a_gpu() {
    host::check(&gpu);
}

#[test]
fn a_model_on_a_gpu_is_the_model_on_the_processor() {
    use crate::{Config, Device, Model, Packed, Part, Pass, Placement, SamplingOptions, Trainable};
    let device = Device::Cuda(0);
    if let Err(error) = device.find() {
        assert!(matches!(error, DeviceError::Absent { .. }), "{error}");
        println!("skipped: {error}");
        return;
    }
    let host = Model::random(Config { initializer_range: 0.1, ..Config::new(211, 64, 96, 2, 4, 2) }, 5)
        .expect("a model");
    let text: Vec<u32> = (0..70).map(|at| (at * 31 + 7) % 211).collect();
    let batch = Packed::new(&[&text, &text[..9]]);
    let rows: Vec<u32> = (0..69).collect();
    let numbers = |model: &Model| -> Vec<f32> {
        let logits = model.logits(&batch).expect("logits");
        logits.flatten_all().and_then(|logits| logits.to_vec1()).expect("f32 numbers")
    };
    for (precision, tolerance) in [(crate::Precision::Float32, 1e-4), (crate::Precision::Bfloat16, 3e-2)] {
        let there = host.placed(Placement { device, precision, frozen: false }).expect("placed");
        let off = distance(&numbers(&there), &numbers(&host));
        assert!(off <= tolerance, "{precision:?}: logits {off}");
        let slopes = vec![-1.0 / 69.0; 69];
        let learn =
            |model: &Model| model.learn(&batch, &rows, &text[1..], &slopes, Pass::default()).expect("a pass");
        host.parameters().iter().for_each(crate::Parameter::clear_gradient);
        assert!(distance(&learn(&there), &learn(&host)) <= tolerance);
        let Trainable::Device(trained) = there.trainable() else { panic!("on the device") };
        for parameter in host.parameters().iter().filter(|one| !one.name().ends_with("k_proj.bias")) {
            let got = trained.read(parameter.name(), Part::Gradient).expect("a gradient");
            let off = distance(&got, &parameter.gradient().expect("a gradient"));
            assert!(off <= 5.0 * tolerance, "{precision:?}: gradient of {} {off}", parameter.name());
        }
        let options = SamplingOptions { maximum_new_tokens: 12, seed: 3, ..SamplingOptions::default() };
        let prompts = [text[..20].to_vec(), text[..20].to_vec(), text[..5].to_vec()];
        let answers = there.generate(&prompts, &vec![options; 3]).expect("answers");
        assert_eq!(answers[0], answers[1], "the same seed, the same answer");
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let whole = [&prompt[..], &answer.ids].concat();
            let rows: Vec<u32> = (prompt.len() - 1..whole.len() - 1).map(|row| row as u32).collect();
            let (want, _) =
                host.score_detached(&Packed::new(&[&whole]), &rows, &answer.ids, 1.0).expect("scores");
            assert!(distance(&answer.log_probs, &want) <= 5.0 * tolerance, "{precision:?}");
        }
    }
}
