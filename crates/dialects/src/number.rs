//! Ids for applications whose clients compare them with numbers.

use serde_json::Value;

/// Beyond this JavaScript's numbers are not exact: such an id stays text.
const MAX_EXACT: i64 = (1 << 53) - 1;

/// An id as a JSON integer where it is a canonical decimal one, whatever form it came in; as text otherwise.
pub fn id_json(id: &str) -> Value {
    let number = id.parse::<i64>().ok().filter(|n| (-MAX_EXACT..=MAX_EXACT).contains(n));
    number.filter(|n| n.to_string() == id).map_or_else(|| id.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::id_json;

    #[test]
    fn only_canonical_integers_become_numbers() {
        let numbers = [
            ("0", json!(0)),
            ("7", json!(7)),
            ("-3", json!(-3)),
            ("9007199254740991", json!(9007199254740991i64)),
        ];
        for (id, number) in numbers {
            assert_eq!(id_json(id), number);
        }
        for text in ["", "07", "+7", "-0", "7.0", " 7", "1e3", "9007199254740992", "a"] {
            assert_eq!(id_json(text), json!(text));
        }
    }
}
