//! INV-13: over any span, at most the burst and what the rate gives in it.

use autonomy_relay::Bucket;
use proptest::prelude::*;

#[test]
fn it_starts_full_and_fills_by_the_tick() {
    let mut bucket = Bucket::new(1500, 3000);
    assert_eq!(bucket.take(0, 3000), Ok(()));
    assert_eq!(bucket.take(0, 3), Err(2), "3 bytes at 1.5 bytes a tick");
    assert_eq!(bucket.available(1), 1, "half a byte is kept, not rounded away");
    assert_eq!(bucket.take(2, 3), Ok(()));
    assert_eq!(bucket.available(10_000), 3000, "never more than the burst");
    assert_eq!(bucket.take(10_000, 3001), Err(u64::MAX), "which is all that can ever pass at once");
}

#[test]
fn a_rate_of_zero_is_no_limit_and_ticks_that_run_backwards_give_nothing() {
    let mut free = Bucket::new(0, 0);
    assert_eq!((free.take(0, u64::MAX), free.available(0)), (Ok(()), u64::MAX));
    let mut bucket = Bucket::new(1000, 10);
    assert_eq!(bucket.take(100, 10), Ok(()));
    assert_eq!((bucket.take(0, 1), bucket.available(50)), (Err(1), 0));
    assert_eq!(bucket.take(105, 5), Ok(()));
}

#[test]
fn other_limits_keep_what_was_saved_and_the_extremes_do_not_overflow() {
    let mut bucket = Bucket::new(1000, 1000);
    assert_eq!(bucket.take(0, 900), Ok(()));
    bucket.limit(50, 2000, 5000);
    assert_eq!((bucket.available(50), bucket.available(60), bucket.burst()), (150, 170, 5000));
    bucket.limit(60, 2000, 100);
    assert_eq!(bucket.available(60), 100);
    bucket.lower(60, 7);
    assert_eq!(bucket.available(60), 7);
    let mut huge = Bucket::new(u64::MAX, u64::MAX);
    assert_eq!(huge.take(0, u64::MAX), Ok(()));
    assert_eq!(huge.take(0, u64::MAX), Err(1000), "a second's worth");
    assert_eq!(huge.take(u64::MAX, u64::MAX), Ok(()));
}

proptest! {
    /// Whoever asks again and again, after whatever pauses, gets no more than the limits give, in any span.
    #[test]
    fn over_any_span_no_more_passes_than_burst_and_rate(
        rate in 1u64..5000,
        burst in 1u64..5000,
        asks in prop::collection::vec((0u64..700, 1u64..3000), 1..60),
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let (mut now, mut passed) = (0, Vec::new());
        for (pause, bytes) in asks {
            now += pause;
            match bucket.take(now, bytes) {
                Ok(()) => passed.push((now, bytes)),
                Err(u64::MAX) => prop_assert!(bytes > burst),
                Err(ticks) => {
                    // The promise is exact: not a tick earlier, not a tick later.
                    prop_assert!(ticks > 0);
                    prop_assert!(bucket.clone().take(now + ticks - 1, bytes).is_err());
                    prop_assert!(bucket.clone().take(now + ticks, bytes).is_ok());
                }
            }
        }
        for (from, (start, _)) in passed.iter().enumerate() {
            let mut sum = 0u128;
            for (end, bytes) in &passed[from..] {
                sum += u128::from(*bytes);
                let given = u128::from(burst) * 1000 + u128::from(rate) * u128::from(end - start);
                prop_assert!(sum * 1000 <= given, "{sum} bytes in {} ticks", end - start);
            }
        }
    }
}
