//! Every kernel through the GPU's own compiler, which needs no GPU.

use crate::cuda::{DeviceError, Precision, compile};

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
