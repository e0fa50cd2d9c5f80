//! Decoding the way Go does: names of members are compared without regard to case, `null` is the same as absent,
//! one of several spellings is taken, members nobody asked for are ignored. Keys of maps (metadata, allocation ids)
//! stay as they are. (`dms-protocol.md` §0.3.)

use serde::{
    Deserialize, Deserializer,
    de::{
        IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

/// Decodes `value` as a `T`, tolerantly.
///
/// # Errors
/// The decoder's, when a member has a type that cannot be read.
pub fn decode<'de, T: Deserialize<'de>>(value: Value) -> Result<T, Error> {
    T::deserialize(Tolerant(value))
}

struct Tolerant(Value);

impl IntoDeserializer<'_, Error> for Tolerant {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Tolerant {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Tolerant))),
            Value::Object(members) => visitor
                .visit_map(MapDeserializer::new(members.into_iter().map(|(name, value)| (name, Tolerant(value))))),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.0 {
            Value::Object(members) => members,
            Value::Null => serde_json::Map::new(),
            other => return other.deserialize_any(visitor),
        };
        // One value for each field: serde refuses a field that comes twice, in two spellings.
        let mut known: Vec<(&'static str, Value)> = Vec::with_capacity(members.len());
        for (name, value) in members {
            let Some(field) = fields.iter().find(|field| field.eq_ignore_ascii_case(&name)) else { continue };
            if value.is_null() {
                continue;
            }
            known.retain(|(earlier, _)| earlier != field);
            known.push((field, value));
        }
        visitor.visit_map(MapDeserializer::new(known.into_iter().map(|(name, value)| (name, Tolerant(value)))))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A nil slice in Go is written `null`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() {
            Self(Value::Array(Vec::new())).deserialize_any(visitor)
        } else {
            self.deserialize_any(visitor)
        }
    }

    /// A nil map in Go is written `null`.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() {
            Self(Value::Object(serde_json::Map::new())).deserialize_any(visitor)
        } else {
            self.deserialize_any(visitor)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        listen_addr: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        #[serde(alias = "EnsembleID")]
        id: String,
        list: Vec<Inner>,
        labels: BTreeMap<String, String>,
        inner: Option<Inner>,
        count: u64,
    }

    #[test]
    fn names_of_members_fold_and_keys_of_maps_do_not() {
        let value = json!({
            "ENSEMBLEid": "e", "List": [{"Listen_Addr": "a"}, {"other": 1}], "LABELS": {"Ab": "1", "aB": "2"},
            "inner": {"LISTEN_ADDR": "b"}, "unknown": {"deep": [1]}
        });
        let expected = Outer {
            id: "e".into(),
            list: vec![Inner { listen_addr: "a".into() }, Inner::default()],
            labels: BTreeMap::from([("Ab".into(), "1".into()), ("aB".into(), "2".into())]),
            inner: Some(Inner { listen_addr: "b".into() }),
            count: 0,
        };
        assert_eq!(decode::<Outer>(value).unwrap(), expected);
    }

    #[test]
    fn null_is_absent_everywhere() {
        let value = json!({"id": null, "list": null, "labels": null, "inner": null, "count": null});
        assert_eq!(decode::<Outer>(value).unwrap(), Outer::default());
        assert_eq!(decode::<Outer>(Value::Null).unwrap(), Outer::default());
        assert_eq!(decode::<Vec<u64>>(Value::Null).unwrap(), Vec::<u64>::new());
        assert_eq!(decode::<BTreeMap<String, u64>>(Value::Null).unwrap(), BTreeMap::new());
    }

    #[test]
    fn a_field_in_two_spellings_is_read_once() {
        assert_eq!(decode::<Outer>(json!({"ID": "1", "id": "2"})).unwrap().id, "2");
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        assert!(decode::<Outer>(json!({"count": "many"})).is_err());
        assert!(decode::<Outer>(json!([1])).is_err());
        assert!(decode::<Outer>(json!("text")).is_err());
    }
}
