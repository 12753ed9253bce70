//! What needs the GPU's own software: its compiler, which runs without a GPU, and a GPU. Each test that cannot run says why.

use super::attention;
use super::golden::{MODELS, check, check_adapter, check_steps};
use super::{batch, distance, engine, small};
use crate::cuda::launch::HeadCounts;
use crate::cuda::{CudaDriver, DeviceError, PassOptions, Precision, Settings, Trained, compile};

#[test]
fn every_kernel_compiles_for_every_architecture() {
    let known = match compile::architectures() {
        Ok(known) => known,
        Err(error @ DeviceError::Absent { .. }) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    println!("this NVRTC compiles for {known:?}");
    assert!(known.contains(&80) && known.contains(&90), "sm_80 and sm_90 are among {known:?}");
    let kinds = [(Precision::Bf16, 64), (Precision::Bf16, 128), (Precision::F32, 64)];
    for architecture in [80, 90, 100].into_iter().filter(|architecture| known.contains(architecture)) {
        // Compiling takes seconds: every kind for one architecture, the kind that models have most for the others.
        for (precision, width) in kinds.into_iter().take(if architecture == 90 { 3 } else { 1 }) {
            let image =
                compile::compile(precision, width, &format!("sm_{architecture}")).expect("it compiles");
            assert!(image.starts_with(b"\x7fELF"), "machine code");
            println!("sm_{architecture}, {precision:?}, heads of {width}: {} bytes", image.len());
        }
    }
    // A device that is newer than the library gets text that its driver finishes.
    let text = compile::for_device(Precision::Bf16, 64, 999).expect("it compiles");
    assert!(text.ends_with(&[0]) && text.windows(6).any(|window| window == b".entry"), "PTX");
}

#[test]
fn a_compile_error_is_told() {
    if compile::architectures().is_err() {
        println!("skipped: no NVRTC");
        return;
    }
    let error = compile::compile(Precision::Bf16, 64, "sm_1").expect_err("there is no sm_1");
    assert!(error.to_string().contains("do not compile for sm_1"), "{error}");
}

/// The first GPU, or the reason why there is none, printed.
fn gpu(precision: Precision, head_width: usize) -> Option<CudaDriver> {
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
