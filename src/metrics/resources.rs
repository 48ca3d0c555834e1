//! The times of single resources. Their series are made for each scrape and so end with the resource.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::controller::{Key, Signs};

/// The resources that have series of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<Vec<(Key, Signs)>>>);

impl Shown {
    pub(super) fn set(&self, resources: Vec<(Key, Signs)>) {
        *self.lock() = resources;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Signs)>> {
        // A list is put there as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let resources = self.lock();
        family(
            &mut encoder,
            "rotation_last_success_timestamp",
            "When the last rotation of the resource was completed; absent before the first one.",
            resources.iter().map(|(key, signs)| (key, signs.last_success)),
        )?;
        family(
            &mut encoder,
            "rotation_next_timestamp",
            "When the next scheduled rotation of the resource is due, in the past while it is late; absent if none is planned.",
            resources.iter().map(|(key, signs)| (key, signs.next)),
        )
    }
}

/// One time for each resource that has it.
fn family<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    times: impl Iterator<Item = (&'a Key, Option<NonZeroU32>)>,
) -> fmt::Result {
    let mut times = times.filter_map(|(key, time)| Some((key, time?))).peekable();
    if times.peek().is_none() {
        return Ok(());
    }
    let unit = Unit::Seconds;
    let mut family = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?;
    for (key, time) in times {
        let labels = [("namespace", key.namespace()), ("name", key.name())];
        ConstGauge::new(time.get()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::controller::Census;
    use crate::metrics::{Format, Levels, Metrics};

    #[test]
    fn each_resource_has_the_times_that_it_has_and_none_once_it_is_gone() {
        let metrics = Metrics::default();
        let resource = |name, last, next| {
            let signs = Signs {
                last_success: NonZeroU32::new(last),
                next: NonZeroU32::new(next),
                ..Signs::default()
            };
            (Key::new("ns", name), signs)
        };
        let scrape = |shown: Vec<_>| -> Vec<String> {
            let resources = shown.len();
            let census = Census {
                resources,
                shown,
                ..Census::default()
            };
            let levels = Levels {
                census,
                ..Levels::default()
            };
            let text = metrics.encode(Format::OpenMetrics, levels);
            let is_ours = |line: &&str| line.starts_with("appcode_rotation_") && line.contains("timestamp");
            text.lines().filter(is_ours).map(str::to_owned).collect()
        };
        let two = scrape(vec![resource("a", 7, 1_800_000_000), resource("b", 0, 9)]);
        assert_eq!(
            two,
            [
                r#"appcode_rotation_last_success_timestamp_seconds{namespace="ns",name="a"} 7"#,
                r#"appcode_rotation_next_timestamp_seconds{namespace="ns",name="a"} 1800000000"#,
                r#"appcode_rotation_next_timestamp_seconds{namespace="ns",name="b"} 9"#,
            ]
        );
        assert_eq!(scrape(vec![resource("b", 0, 9)]), two[2..]);
        assert_eq!(scrape(Vec::new()), Vec::<String>::new());
    }
}
