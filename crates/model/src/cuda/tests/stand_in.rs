//! The GPU's own tests on libraries that stand in for the driver, cuBLAS and NVRTC (`stand_in.cpp`): what `device.rs` and
//! `compile.rs` call, with what, and in which order, and how it puts a product to a library that counts by columns.

use std::process::Command;

use super::emulator::{compiler, wrappers};

#[test]
fn the_gpu_driver_works_on_a_stand_in() {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!("skipped: the emulator runs on x86-64 Linux only");
        return;
    }
    let Some(compiler) = compiler() else {
        println!("skipped: no C++ compiler (CXX, c++, g++ or clang++)");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("shim.hpp"), include_str!("shim.hpp")).expect("written");
    std::fs::write(path("wrappers.hpp"), wrappers()).expect("written");
    std::fs::write(path("stand_in.cpp"), include_str!("stand_in.cpp")).expect("written");
    let built = Command::new(&compiler)
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-w"])
        .args([path("stand_in.cpp"), "-o".into(), path("libcuda.so"), "-ldl".into()])
        .output()
        .expect("the compiler runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for name in ["libcublas.so", "libnvrtc.so"] {
        std::os::unix::fs::symlink(path("libcuda.so"), path(name)).expect("linked");
    }
    // The loader reads its search path when a process starts, so these tests need one of their own.
    let tests = std::env::current_exe().expect("this test's own program");
    let output = Command::new(tests)
        .args(["cuda::tests::gpu::", "cuda::tests::speed::", "--include-ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("STAND_IN_FOLDER", folder.path())
        .env("STAND_IN_COMPILER", &compiler)
        .output()
        .expect("the tests run");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("no CUDA device"), "{said}");
    assert!(said.contains("6 passed"), "{said}");
}
