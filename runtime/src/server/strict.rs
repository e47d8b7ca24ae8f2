//! The body of a call: JSON in which nothing is said twice and nothing is nested without end.

use std::fmt;

use autonomy_schema::canonical::MAX_INTEGER;
use autonomy_schema::{Code, Reason};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::call::Call;

/// Deepest nesting of a request.
const MAX_DEPTH: usize = 64;
/// Longest name of a tool.
const MAX_KIND: usize = 256;

/// Reads `{"kind": …, "params": {…}}`.
pub(super) fn call(bytes: &[u8]) -> Result<Call, Reason> {
    let bad = |why: String| Reason::new(Code::BadRequest, why);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Reason::new(Code::NotUtf8, format!("the body is not UTF-8 after byte {}", error.valid_up_to()))
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict(0).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|error| bad(format!("the body is not the JSON of a call: {error}")))?;
    let Value::Object(mut fields) = value else { return Err(bad("the body is no JSON object".to_owned())) };
    let Some(Value::String(kind)) = fields.remove("kind") else {
        return Err(bad("`kind` must be a string: the name of a tool".to_owned()));
    };
    if kind.len() > MAX_KIND {
        return Err(bad(format!("`kind` has {} bytes; at most {MAX_KIND}", kind.len())));
    }
    let params = match fields.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(bad("`params` must be an object".to_owned())),
    };
    if let Some(name) = fields.keys().next() {
        let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(bad(format!("a call has `kind` and `params`, and no `{shown}`")));
    }
    Ok(Call { kind, params })
}

/// Larger integers have no canonical form of their own: two of them would have one digest on record.
fn exact<E: de::Error>(magnitude: u64) -> Result<(), E> {
    if magnitude > MAX_INTEGER {
        return Err(E::custom(format!("{magnitude} is above 2^53-1, the largest integer that is kept exact")));
    }
    Ok(())
}

/// A JSON value at this depth.
struct Strict(usize);

impl Strict {
    fn below<E: de::Error>(&self) -> Result<Strict, E> {
        if self.0 >= MAX_DEPTH {
            return Err(E::custom(format!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Strict(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        exact(value)?;
        Ok(Value::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        exact(value.unsigned_abs())?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.below()?)?;
            if fields.contains_key(&key) {
                let shown: String = key.chars().take(80).flat_map(char::escape_debug).collect();
                return Err(de::Error::custom(format!("`{shown}` occurs twice")));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_read_and_what_is_none_is_refused() {
        let read = call(br#" {"kind":"tool.echo","params":{"message":"x","n":[1,-2,0.5,null,true]}} "#).expect("reads");
        assert_eq!(read.kind, "tool.echo");
        assert_eq!(Value::Object(read.params), json!({ "message": "x", "n": [1, -2, 0.5, null, true] }));
        assert!(call(br#"{"kind":"tool.echo"}"#).expect("reads").params.is_empty());
        let refused = |bytes: &[u8], what: &str| {
            let reason = call(bytes).expect_err(what);
            assert!(reason.message.contains(what), "{reason}");
        };
        refused(b"", "EOF");
        refused(b"[]", "no JSON object");
        refused(br#"{"params":{}}"#, "`kind`");
        refused(br#"{"kind":["tool.echo"]}"#, "`kind`");
        refused(br#"{"kind":"tool.echo","params":[]}"#, "`params`");
        refused(br#"{"kind":"tool.echo","allow":true}"#, "no `allow`");
        refused(br#"{"kind":"tool.shell","kind":"tool.echo"}"#, "`kind` occurs twice");
        refused(br#"{"kind":"tool.echo","params":{"a":{"b":1,"\u0062":2}}}"#, "`b` occurs twice");
        refused(br#"{"kind":"tool.echo"}{}"#, "trailing");
        refused(br#"{"kind":"tool.echo","params":{"n":1e999}}"#, "number");
        for number in ["9007199254740992", "-9007199254740992", "18446744073709551615"] {
            refused(format!(r#"{{"kind":"k","params":{{"n":{number}}}}}"#).as_bytes(), "2^53-1");
        }
        assert!(call(br#"{"kind":"k","params":{"n":-9007199254740991}}"#).is_ok());
        refused(b"{\"kind\":\"tool.\xff\"}", "not UTF-8");
        refused(br#"{"kind":"\ud800"}"#, "hex escape");
        refused(format!(r#"{{"kind":"{}"}}"#, "x".repeat(MAX_KIND + 1)).as_bytes(), "at most");
        let nested =
            |levels: usize| format!(r#"{{"kind":"k","params":{{"a":{}1{}}}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(call(nested(MAX_DEPTH - 2).as_bytes()).is_ok());
        refused(nested(MAX_DEPTH - 1).as_bytes(), "deeper");
        refused(nested(100_000).as_bytes(), "deeper");
    }
}
