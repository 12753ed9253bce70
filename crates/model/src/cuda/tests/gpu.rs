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
