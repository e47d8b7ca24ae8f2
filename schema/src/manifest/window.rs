//! The weekly maintenance window: when it is open. Pure: time zones come with the tool (crate `jiff`'s copy of the IANA
//! database), so that every machine gives the same answer, with or without `/usr/share/zoneinfo`.

use jiff::civil::{DateTime, Time as Clock, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reason::{Code, Reason};
use crate::time::Time;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn is(self, day: Weekday) -> bool {
        let own = match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        };
        own == day
    }
}

/// A weekly maintenance window. It opens at `from` on each of `days` and closes at the next `to`; where both are the
/// same it is open for a whole day. An hour that a change to summer time skips or repeats is read as most calendars do:
/// a skipped time means the one an hour later, a repeated one its first occurrence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// On which days it opens.
    pub days: Vec<Day>,
    /// When it opens, `HH:MM`.
    pub from: String,
    /// When it closes, `HH:MM`; not later than `from` means on the next day.
    pub to: String,
    /// `UTC`, or an IANA time zone such as `Europe/Oslo`.
    pub zone: String,
}

/// A window in terms that can be asked.
struct Parsed<'a> {
    days: &'a [Day],
    from: Clock,
    to: Clock,
    zone: TimeZone,
}

impl Window {
    pub(super) fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: String| reasons.push(Reason::new(Code::BadValue, message));
        if self.days.is_empty() {
            bad("`spec.window.days` is empty, so the window would never open; leave `spec.window` out instead"
                .to_owned());
        }
        for (field, text) in [("from", &self.from), ("to", &self.to)] {
            if clock(text).is_none() {
                bad(format!("`spec.window.{field}` is `{}`; expected `HH:MM`, such as `02:00`", text.escape_default()));
            }
        }
        if zone(&self.zone).is_none() {
            bad(format!(
                "`spec.window.zone` is `{}`; expected `UTC` or an IANA time zone such as `Europe/Oslo`",
                self.zone.escape_default()
            ));
        }
        reasons
    }

    fn parsed(&self) -> Option<Parsed<'_>> {
        Some(Parsed { days: &self.days, from: clock(&self.from)?, to: clock(&self.to)?, zone: zone(&self.zone)? })
    }

    /// Whether the window is open. One that cannot be read, which [`crate::Document::validate`] refuses, never is.
    pub fn is_open(&self, now: Time) -> bool {
        self.parsed().is_some_and(|window| window.spans(now).any(|(opens, closes)| opens <= now && now < closes))
    }

    /// When the window opens next after `now`.
    pub fn opens_next(&self, now: Time) -> Option<Time> {
        self.parsed()?.spans(now).map(|(opens, _)| opens).find(|opens| *opens > now)
    }
}

impl Parsed<'_> {
    /// Openings and closings around `now`, from two days before it to eight days after it.
    fn spans(&self, now: Time) -> impl Iterator<Item = (Time, Time)> {
        let today = Timestamp::from_second(now.unix()).ok().map(|now| self.zone.to_datetime(now).date());
        (-2..=8).filter_map(move |days| {
            let date = today?.checked_add(Span::new().days(days)).ok()?;
            if !self.days.iter().any(|day| day.is(date.weekday())) {
                return None;
            }
            let end = if self.to > self.from { date } else { date.tomorrow().ok()? };
            Some((self.at(date.to_datetime(self.from))?, self.at(end.to_datetime(self.to))?))
        })
    }

    fn at(&self, local: DateTime) -> Option<Time> {
        let time = self.zone.to_ambiguous_timestamp(local).compatible().ok()?;
        Some(Time::from_unix(time.as_second()))
    }
}

fn clock(text: &str) -> Option<Clock> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| -> Option<i8> {
        (text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit())).then(|| text.parse().ok())?
    };
    Clock::new(number(hours)?, number(minutes)?, 0, 0).ok()
}

fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, to: &str, zone: &str) -> Window {
        Window { days: days.to_vec(), from: from.to_owned(), to: to.to_owned(), zone: zone.to_owned() }
    }

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_on_its_days_and_closes_at_its_end() {
        // 2026-11-28 is a Saturday.
        let nights = window(&[Day::Sat, Day::Sun], "22:00", "04:00", "UTC");
        for (time, open) in [
            ("2026-11-27T23:00:00Z", false),
            ("2026-11-28T21:59:59Z", false),
            ("2026-11-28T22:00:00Z", true),
            ("2026-11-29T03:59:59Z", true),
            ("2026-11-29T04:00:00Z", false),
            ("2026-11-30T03:00:00Z", true),
            ("2026-11-30T22:00:00Z", false),
        ] {
            assert_eq!(nights.is_open(at(time)), open, "{time}");
        }
        assert_eq!(nights.opens_next(at("2026-11-30T05:00:00Z")), Some(at("2026-12-05T22:00:00Z")));
        assert!(window(&[Day::Sat], "00:00", "00:00", "UTC").is_open(at("2026-11-28T23:59:59Z")));
    }

    #[test]
    fn a_zone_has_its_own_night_and_its_summer_time() {
        let oslo = window(&[Day::Sun], "02:30", "03:30", "Europe/Oslo");
        // 02:30 does not exist on 2026-03-29: it is read as 03:30, where the window ends already.
        assert!(!oslo.is_open(at("2026-03-29T01:15:00Z")));
        assert!(oslo.is_open(at("2026-07-05T00:45:00Z")), "02:45 in summer");
        assert!(oslo.is_open(at("2026-01-04T01:45:00Z")), "02:45 in winter");
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_never_open() {
        for (wrong, at_field) in [
            (window(&[], "02:00", "04:00", "UTC"), "days"),
            (window(&[Day::Mon], "2:00", "04:00", "UTC"), "from"),
            (window(&[Day::Mon], "02:00", "24:00", "UTC"), "to"),
            (window(&[Day::Mon], "02:00", "04:00", "Atlantis/Port"), "zone"),
            (window(&[Day::Mon], "02:00", "04:00", "../../etc/passwd"), "zone"),
        ] {
            let reasons = wrong.validate();
            assert!(reasons.len() == 1 && reasons[0].message.contains(at_field), "{reasons:?}");
            assert!(!wrong.is_open(at("2026-11-30T03:00:00Z")));
        }
    }
}
