//! Saves small random models of every architecture, with adapters, and the logits that this engine computes with them, so that
//! `tools/check_transformers.py` can compare what transformers and PEFT compute from the same files.
//!
//! ```text
//! cargo run --release -p vul2safe-model --example write_parity -- FOLDER
//! python tools/check_transformers.py FOLDER
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use vul2safe_model::{Adapter, Config, LoraConfig, Model, Packed, Precision, RopeParameters, Target};

const TEXT: [u32; 40] = [
    1, 17, 260, 0, 5, 33, 2, 40, 9, 100, 101, 102, 7, 7, 7, 250, 199, 31, 64, 8, 21, 22, 23, 90, 180, 3, 77,
    131, 55, 12, 240, 6, 66, 166, 211, 19, 45, 145, 245, 4,
];

fn configs() -> Vec<(&'static str, Config)> {
    let base = |architecture: &str| Config {
        model_type: architecture.into(),
        initializer_range: 0.2,
        max_position_embeddings: 256,
        ..Config::new(263, 48, 112, 3, 6, 2)
    };
    let rope = |kind: &str| RopeParameters {
        rope_type: Some(kind.into()),
        factor: Some(4.0),
        original_max_position_embeddings: Some(64),
        ..RopeParameters::default()
    };
    let llama3 = RopeParameters { low_freq_factor: Some(1.0), high_freq_factor: Some(4.0), ..rope("llama3") };
    vec![
        ("qwen2-tied", base("qwen2")),
        ("qwen2-untied", Config { tie_word_embeddings: false, ..base("qwen2") }),
        ("qwen2-yarn", Config { rope_scaling: Some(rope("yarn")), ..base("qwen2") }),
        ("qwen3", Config { head_dim: Some(16), ..base("qwen3") }),
        ("llama", Config { tie_word_embeddings: false, ..base("llama") }),
        ("llama3-rope", Config { rope_parameters: Some(llama3), ..base("llama") }),
    ]
}

/// Writes `logits.safetensors` into the folder.
fn write_logits(folder: &Path, model: &Model) -> Result<(), Box<dyn Error>> {
    let logits = model.logits(&Packed::new(&[&TEXT]))?.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = logits.iter().flat_map(|number| number.to_le_bytes()).collect();
    let ids: Vec<u8> = TEXT.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    let shape = vec![TEXT.len(), model.config().vocab_size];
    let views = [
        ("logits", TensorView::new(Dtype::F32, shape, &bytes)?),
        ("ids", TensorView::new(Dtype::I64, vec![1, TEXT.len()], &ids)?),
    ];
    safetensors::serialize_to_file(views, None, &folder.join("logits.safetensors"))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give a folder to write to")?;
    for (index, (name, config)) in configs().into_iter().enumerate() {
        let at = folder.join(name);
        let model = Model::random(config, index as u64)?;
        for (at, parameter) in model.parameters().iter().enumerate() {
            if parameter.rank() == 1 {
                let values = parameter.numbers();
                let moved: Vec<f32> = values
                    .iter()
                    .enumerate()
                    .map(|(place, value)| value + 0.2 * ((place * 7 + at) as f32).sin())
                    .collect();
                parameter.set(&moved)?;
            }
        }
        model.save(&at)?;
        write_logits(&at, &model)?;
        let half = at.join("bfloat16");
        model.save_as(&half, Precision::Bfloat16)?;
        write_logits(&half, &Model::load(&half)?)?;
        let lora = LoraConfig {
            rank: 4,
            alpha: 8.0,
            rank_stabilized: index % 2 == 1,
            target_modules: if index == 2 { vec![Target::Query, Target::Down] } else { Target::ALL.to_vec() },
            ..LoraConfig::default()
        };
        let adapter = Adapter::new(lora, model.config(), 9)?;
        for (at, parameter) in adapter.parameters().iter().enumerate().filter(|(at, _)| at % 2 == 1) {
            let values: Vec<f32> =
                (0..parameter.count()).map(|place| 0.1 * ((place * 3 + at) as f32).sin()).collect();
            parameter.set(&values)?;
        }
        let adapted = model.with_adapter(adapter)?;
        let beside = at.join("adapter");
        adapted.save_adapter(&beside, Some(&at.to_string_lossy()))?;
        write_logits(&beside, &adapted)?;
        let merged = at.join("merged");
        adapted.merge()?.save(&merged)?;
        write_logits(&merged, &adapted)?;
    }
    Ok(())
}
