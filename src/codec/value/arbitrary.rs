//! Random values for the codecs' property tests.

use super::{ArrayBuilder, ArrayKey, Value};
use proptest::{collection::vec, prelude::*};

/// Any value that PHP without objects has.
pub fn value() -> impl Strategy<Value = Value> {
    tree(vec(any::<u8>(), 0..20).boxed(), any::<f64>().boxed())
}

/// A value that survives PHP's JSON there and back, up to its spelling: valid UTF-8, finite floats, no -0.0.
pub fn json_value() -> impl Strategy<Value = Value> {
    let finite = any::<f64>().prop_filter("JSON", |f| f.is_finite() && (*f != 0.0 || f.is_sign_positive()));
    tree("\\PC{0,20}|[\u{0}-\u{ff}\u{ffff}\u{10ffff}/\"\\\\]{0,8}".prop_map(String::into_bytes).boxed(), finite.boxed())
}

fn tree(bytes: BoxedStrategy<Vec<u8>>, float: BoxedStrategy<f64>) -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-9i64..9).prop_map(Value::Int),
        float.prop_map(Value::Float),
        bytes.clone().prop_map(Value::Bytes),
        "-?[0-9]{1,21}".prop_map(|digits| Value::Bytes(digits.into_bytes())),
    ];
    let key = prop_oneof![
        (-3i64..6).prop_map(ArrayKey::Int),
        any::<i64>().prop_map(ArrayKey::Int),
        "-?[0-9]{0,3}".prop_map(|digits| ArrayKey::from_bytes(digits.into_bytes())),
        bytes.prop_map(ArrayKey::from_bytes),
    ];
    scalar.prop_recursive(5, 40, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(|values| {
                let mut array = ArrayBuilder::new();
                values.into_iter().for_each(|value| array.push(value));
                array.finish()
            }),
            vec((key.clone(), inner), 0..8).prop_map(|entries| {
                let mut array = ArrayBuilder::new();
                entries.into_iter().for_each(|(key, value)| array.insert(key, value));
                array.finish()
            }),
        ]
    })
}
