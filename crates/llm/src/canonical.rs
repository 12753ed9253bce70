//! One spelling for each JSON value, and its hash: the cache's key.

use std::fmt::Write;

use serde_json::Value;

/// The key of an answer.
pub(crate) type Key = [u8; 32];

/// BLAKE3 of the value's canonical spelling. Not serde_json's own: whether that keeps the order of fields depends on
/// a feature that any other crate of a build may turn on.
pub(crate) fn key(value: &Value) -> Key {
    let mut text = String::new();
    write_canonical(value, &mut text);
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// No white space, fields sorted by their bytes.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                // Writing into a string does not fail.
                let _ = write!(out, "{}:", Value::String(name.clone()));
                write_canonical(&fields[name], out);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_spelling_is_json_of_the_same_value(value in values()) {
            let mut text = String::new();
            write_canonical(&value, &mut text);
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }

        #[test]
        fn other_values_have_other_keys(one in values(), other in values()) {
            prop_assert_eq!(one == other, key(&one) == key(&other));
        }
    }

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).expect("JSON");
        let other: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).expect("JSON");
        assert_eq!(key(&one), key(&other));
    }
}
