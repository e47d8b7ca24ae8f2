//! Times (RFC 3339, UTC, whole seconds) and durations with a unit (`7d`, `250ms`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a time or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339 in UTC with whole seconds.
    #[error(
        "bad_time: `{0}` is not a time; expected RFC 3339 in UTC with whole seconds, such as `2026-11-20T09:00:00Z`"
    )]
    Time(String),
    /// Not a number with a unit.
    #[error(
        "bad_duration: `{0}` is not a duration; expected a whole number and one of ms, s, m, h, d, w, such as `7d` or `250ms`"
    )]
    Duration(String),
}

/// A point in time, in UTC, with a resolution of one second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Time = Time(Timestamp::UNIX_EPOCH);

    /// From seconds since the Unix epoch; values outside years -9999 to 9999 saturate.
    pub fn from_unix(seconds: i64) -> Self {
        let clamped = seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Time(Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Seconds since the Unix epoch.
    pub fn unix(self) -> i64 {
        self.0.as_second()
    }

    /// This time and `duration` more (rounded down to whole seconds, saturating).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_unix(self.unix().saturating_add_unsigned(duration.millis() / 1000))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError::Time(text.chars().take(40).collect());
        let time = text.parse::<Timestamp>().map(Time).map_err(|_unparsable| error())?;
        // One spelling per meaning: what would not be written back the same way is refused.
        if time.0.subsec_nanosecond() == 0 && time.to_string() == text { Ok(time) } else { Err(error()) }
    }
}

/// A span of time in milliseconds. It is written with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Duration {
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// As the standard library's type.
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// This span `times` over, saturating.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        // Weeks are read but not written: `7d` is what people write.
        let (unit, size) = UNITS[1..].iter().find(|(_, size)| self.0.is_multiple_of(*size)).unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Duration {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError::Duration(text.chars().take(40).collect());
        let split = text.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0).ok_or_else(error)?;
        let (digits, unit) = text.split_at(split);
        if digits.len() > 1 && digits.starts_with('0') {
            return Err(error());
        }
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let count = digits.parse::<u64>().map_err(|_too_large| error())?;
        // 2^53 - 1 milliseconds, the largest integer that canonical JSON keeps exact.
        let millis = count.checked_mul(*size).filter(|millis| *millis <= crate::canonical::MAX_INTEGER);
        millis.map(Self).ok_or_else(error)
    }
}

macro_rules! as_text {
    ($name:ident, $schema:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

as_text!(
    Time,
    json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$" })
);
as_text!(Duration, json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d|w)$" }));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_spelling_each() {
        for (text, shown) in
            [("7d", "7d"), ("1w", "7d"), ("250ms", "250ms"), ("120s", "2m"), ("0s", "0s"), ("90m", "90m")]
        {
            assert_eq!(text.parse::<Duration>().map(|d| d.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "7", "d", "1.5h", "-1s", "7 d", "07d", "99999999999999999999d", "9007199254740992ms"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_utc_with_whole_seconds() {
        assert_eq!("2026-11-20T09:00:00Z".parse::<Time>().map(Time::unix), Ok(1_795_165_200));
        for bad in ["2026-11-20", "2026-11-20T09:00:00+01:00", "2026-11-20T09:00:00.5Z", "2026-11-20 09:00:00Z", "x"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }
}
