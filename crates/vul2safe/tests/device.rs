//! The choice of a device on the command line; with the feature `emulator`, the whole way on one.

mod common;

use common::{stderr, vul2safe};

#[test]
fn a_device_that_is_not_there_is_an_error_with_a_hint_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    if vul2safe_model::Device::Cuda(7).find().is_ok() {
        println!("skipped: this machine has eight GPUs");
        return;
    }
    let output = vul2safe(folder.path(), &["demo", "--out", "run", "--device", "cuda:7"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let wanted = if cfg!(feature = "cuda") { "no CUDA device" } else { "cuda:7 was asked for" };
    assert!(text.contains(wanted) && text.contains("hint:"), "{text}");
    assert!(!folder.path().join("run").exists(), "nothing is written before the device is known to be there");

    let output = vul2safe(folder.path(), &["demo", "--out", "run", "--device", "gpu"]);
    assert!(stderr(&output).contains("`gpu` is no device"), "{}", stderr(&output));
    let output = vul2safe(folder.path(), &["demo", "--out", "run", "--set", "device=gpu"]);
    assert!(stderr(&output).contains("`gpu` is no device"), "{}", stderr(&output));
}

#[cfg(feature = "emulator")]
mod emulated {
    use super::common::{stderr, stdout, tiny_demo, vul2safe};

    #[test]
    fn the_whole_way_on_a_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let small = [
            "base.training.tokens_per_batch=512",
            "sft.training.tokens_per_batch=512",
            "sft.maximum_examples=12",
        ];
        for (out, adapter) in [("whole", false), ("adapter", true)] {
            let mut arguments = tiny_demo(out, &["--device", "emulator"]);
            arguments.extend(small.iter().flat_map(|pair| ["--set", pair]));
            if adapter {
                arguments.extend(["--set", "lora.rank=4", "--set", "model.precision=bfloat16"]);
            }
            let output = vul2safe(folder.path(), &arguments);
            if stderr(&output).contains("the emulator needs") {
                println!("skipped: {}", stderr(&output));
                return;
            }
            assert!(output.status.success(), "{}", stderr(&output));
            let read = |name: &str| std::fs::read_to_string(folder.path().join(out).join(name)).expect(name);
            let environment: serde_json::Value =
                serde_json::from_str(&read("environment.json")).expect("JSON");
            assert_eq!(environment["device"], "emulator");
            assert!(read("config.toml").contains("device = \"emulator\""));
            let ratios: Vec<f64> = read("metrics.jsonl")
                .lines()
                .filter_map(|line| {
                    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    line["first_ratio_error"]
                        .as_f64()
                        .or_else(|| line["values"]["first_ratio_error"].as_f64())
                })
                .collect();
            assert!(!ratios.is_empty() && ratios.iter().all(|ratio| *ratio == 0.0), "{ratios:?}");
            let checkpoint = format!("{out}/checkpoints/ppo-token");
            assert_eq!(folder.path().join(&checkpoint).join("adapter_config.json").exists(), adapter);

            // What was trained on the device answers on the processor, and the same there.
            let answer = |device: &str| {
                let arguments =
                    ["generate", "--model", &checkpoint, "--prompt", "Write a function.", "--device", device];
                let output =
                    vul2safe(folder.path(), &[&arguments[..], &["--maximum-new-tokens", "16"]].concat());
                assert!(output.status.success(), "{}", stderr(&output));
                stdout(&output)
            };
            assert_eq!(answer("emulator"), answer("cpu"));
        }
    }
}
