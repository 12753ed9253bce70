//! The rotary embedding's base and scaling: what `config.json` says of it, and the frequencies that follow.
//!
//! The formulas are those of transformers' `modeling_rope_utils` (5.x), computed in f32 as there.

use serde::{Deserialize, Serialize};

use super::Config;
use crate::error::ModelError;

/// `rope_parameters` (or, in older files, `rope_scaling`) of `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the rotary embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// The kind of scaling: `default`, `linear`, `llama3` or `yarn`.
    #[serde(default, alias = "type", skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
    /// By how much the positions are stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// `llama3`: waves longer than original/low are stretched fully.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_freq_factor: Option<f64>,
    /// `llama3`: waves shorter than original/high are left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_freq_factor: Option<f64>,
    /// Positions before stretching; `max_position_embeddings` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_max_position_embeddings: Option<usize>,
    /// `yarn`: factor on cosines and sines; follows from `factor` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// `yarn`: turns above which a dimension is left alone (32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_fast: Option<f64>,
    /// `yarn`: turns below which a dimension is stretched fully (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_slow: Option<f64>,
    /// `yarn`: whether the borders of the ramp are rounded outwards (yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// The share of a head that is turned; anything but 1 is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_rotary_factor: Option<f64>,
    /// `yarn` of other architectures; refused where present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
}

impl Config {
    /// Base of the rotary embedding, from whichever place the file keeps it in (10,000 where it does not say).
    pub fn rotary_base(&self) -> f64 {
        let nested = |place: &Option<RopeParameters>| place.as_ref().and_then(|rope| rope.rope_theta);
        self.rope_theta
            .or_else(|| nested(&self.rope_parameters))
            .or_else(|| nested(&self.rope_scaling))
            .unwrap_or(10_000.0)
    }

    /// What is in force: `rope_parameters`, unless `rope_scaling` alone names a kind of scaling.
    fn scaling(&self) -> Option<&RopeParameters> {
        let named = |place: &Option<RopeParameters>| {
            place.as_ref().is_some_and(|rope| rope.rope_type.as_deref().is_some_and(|kind| kind != "default"))
        };
        if !named(&self.rope_parameters) && named(&self.rope_scaling) {
            return self.rope_scaling.as_ref();
        }
        self.rope_parameters.as_ref().or(self.rope_scaling.as_ref())
    }

    /// One place for everything about the rotary embedding, as newer files keep it.
    pub(crate) fn unified_rope(&self) -> RopeParameters {
        let mut rope = self.scaling().cloned().unwrap_or_default();
        rope.rope_theta = Some(self.rotary_base());
        rope.rope_type.get_or_insert_with(|| "default".into());
        rope
    }

    pub(super) fn check_rope(&self) -> Result<(), ModelError> {
        let rope = self.unified_rope();
        let kind = rope.rope_type.as_deref().unwrap_or("default");
        let unsupported = |key: &str, found: String, supported: &str| {
            Err(ModelError::Unsupported { key: key.into(), found, supported: supported.into() })
        };
        if !matches!(kind, "default" | "linear" | "llama3" | "yarn") {
            return unsupported("rope_type", kind.into(), "default, linear, llama3 and yarn");
        }
        if let Some(share) = rope.partial_rotary_factor.filter(|share| *share != 1.0) {
            return unsupported("partial_rotary_factor", share.to_string(), "1 (whole heads are turned)");
        }
        if let Some(scale) = rope.mscale {
            return unsupported("mscale", scale.to_string(), "yarn without mscale, as Qwen uses it");
        }
        let invalid = |what: String| Err(ModelError::InvalidConfig { what });
        let wanted: &[(&str, Option<f64>)] = match kind {
            "linear" | "yarn" => &[("factor", rope.factor)],
            "llama3" => &[
                ("factor", rope.factor),
                ("low_freq_factor", rope.low_freq_factor),
                ("high_freq_factor", rope.high_freq_factor),
                ("original_max_position_embeddings", rope.original_max_position_embeddings.map(|n| n as f64)),
            ],
            _ => &[],
        };
        for (key, value) in wanted {
            if !value.is_some_and(|value| value > 0.0 && value.is_finite()) {
                return invalid(format!("rope_type {kind} needs a positive {key}"));
            }
        }
        if kind == "llama3" && rope.high_freq_factor <= rope.low_freq_factor {
            return invalid("rope_type llama3 needs high_freq_factor above low_freq_factor".into());
        }
        Ok(())
    }

    /// Angle of each pair of dimensions per position, and the factor on cosines and sines.
    pub(crate) fn rotary_frequencies(&self) -> (Vec<f32>, f32) {
        let width = self.head_width();
        let base = self.rotary_base();
        let plain: Vec<f32> =
            (0..width / 2).map(|i| 1.0 / (base as f32).powf((2 * i) as f32 / width as f32)).collect();
        let rope = self.unified_rope();
        let factor = rope.factor.unwrap_or(1.0);
        let original = rope.original_max_position_embeddings.unwrap_or(self.max_position_embeddings) as f64;
        match rope.rope_type.as_deref() {
            Some("linear") => (plain.iter().map(|f| f / factor as f32).collect(), 1.0),
            Some("llama3") => {
                let (low, high) = (rope.low_freq_factor.unwrap_or(1.0), rope.high_freq_factor.unwrap_or(4.0));
                let stretched = |frequency: f32| {
                    let wave = std::f32::consts::TAU / frequency;
                    if f64::from(wave) > original / low {
                        return frequency / factor as f32;
                    }
                    if f64::from(wave) < original / high {
                        return frequency;
                    }
                    let smooth = (original as f32 / wave - low as f32) / (high - low) as f32;
                    (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
                };
                (plain.into_iter().map(stretched).collect(), 1.0)
            }
            Some("yarn") => {
                let attention = rope.attention_factor.unwrap_or(if factor <= 1.0 {
                    1.0
                } else {
                    0.1 * factor.ln() + 1.0
                });
                // The dimension whose wave turns `turns` times within the original positions.
                let dimension = |turns: f64| {
                    width as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
                };
                let (mut low, mut high) =
                    (dimension(rope.beta_fast.unwrap_or(32.0)), dimension(rope.beta_slow.unwrap_or(1.0)));
                if rope.truncate.unwrap_or(true) {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(width as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let mixed = plain.iter().enumerate().map(|(i, frequency)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
                    let alone = 1.0 - ramp;
                    frequency / factor as f32 * (1.0 - alone) + frequency * alone
                });
                (mixed.collect(), attention as f32)
            }
            _ => (plain, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        let base = r#"{"model_type":"llama","vocab_size":16,"hidden_size":64,"intermediate_size":8,"num_hidden_layers":1,
            "num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":131072,"#;
        serde_json::from_str(&format!("{base}{json}}}")).expect("a configuration")
    }

    fn close(got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 2e-6 * want.abs(), "{got} is not {want}");
        }
    }

    // The numbers of the three tests below are those of transformers 5.x, `ROPE_INIT_FUNCTIONS[kind](config)`.

    #[test]
    fn llama3_scaling_is_that_of_transformers() {
        let config = config(
            r#""rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
                "high_freq_factor":4.0,"original_max_position_embeddings":8192}"#,
        );
        config.check().expect("supported");
        let want = [
            1.0,
            0.193_922_76,
            0.037_606_03,
            0.007_292_665,
            0.000_524_846,
            3.428_102_4e-5,
            6.647_869_7e-6,
            1.289_173_2e-6,
        ];
        let (got, factor) = config.rotary_frequencies();
        close(&got, &want);
        assert_eq!(factor, 1.0);
    }

    #[test]
    fn yarn_scaling_is_that_of_transformers() {
        let config = config(
            r#""rope_theta":1000000.0,"rope_scaling":{"type":"yarn","factor":4.0,"original_max_position_embeddings":32768}"#,
        );
        config.check().expect("supported");
        let want = [
            1.0,
            0.177_827_94,
            0.031_622_78,
            0.004_217_56,
            5e-4,
            4.445_698_5e-5,
            7.905_694e-6,
            1.405_853_4e-6,
        ];
        let (got, factor) = config.rotary_frequencies();
        close(&got, &want);
        assert!((factor - 1.138_629_4).abs() < 1e-6);
    }

    #[test]
    fn linear_scaling_is_that_of_transformers() {
        let config = config(r#""rope_parameters":{"rope_type":"linear","rope_theta":10000.0,"factor":4.0}"#);
        config.check().expect("supported");
        let want =
            [0.25, 0.079_056_94, 0.025, 0.007_905_695, 0.002_5, 0.000_790_569_5, 0.000_25, 7.905_694e-5];
        close(&config.rotary_frequencies().0, &want);
    }

    #[test]
    fn kinds_without_a_formula_here_are_refused_by_name() {
        for (json, key) in [
            (r#""rope_scaling":{"type":"dynamic","factor":2.0}"#, "rope_type"),
            (
                r#""rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}"#,
                "partial_rotary_factor",
            ),
            (r#""rope_parameters":{"rope_type":"yarn","factor":4.0,"mscale":1.0}"#, "mscale"),
        ] {
            let error = config(json).check().unwrap_err();
            assert!(matches!(&error, ModelError::Unsupported { key: found, .. } if found == key), "{error}");
        }
        let error = config(r#""rope_scaling":{"rope_type":"llama3","factor":8.0}"#).check().unwrap_err();
        assert!(error.to_string().contains("low_freq_factor"), "{error}");
    }
}
