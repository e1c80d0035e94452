//! Medians, and how far they can be trusted.

use statrs::statistics::{Data, OrderStatistics};

/// How often a sample is drawn anew; more changes no digit that is shown.
const RESAMPLES: usize = 4_000;

/// The same sample gives the same interval in every run.
const SEED: u64 = 0x1bc_0417;

/// A median and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// The median of `sample` with its percentile bootstrap interval (Efron, 1979).
    pub(crate) fn of(sample: &[f64]) -> Self {
        assert!(!sample.is_empty(), "an estimate needs a sample");
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut drawn = vec![0.0; sample.len()];
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                for value in &mut drawn {
                    *value = sample[rng.usize(..sample.len())];
                }
                median(&mut drawn)
            })
            .collect();
        let mut medians = Data::new(medians.as_mut_slice());
        Self {
            median: median(&mut sample.to_vec()),
            low: medians.quantile(0.025),
            high: medians.quantile(0.975),
        }
    }

    /// The ratio of two contenders: value `i` of both samples comes from round `i`, so that whatever disturbed a
    /// round disturbed both.
    pub(crate) fn of_paired_ratio(numerators: &[f64], denominators: &[f64]) -> Self {
        assert_eq!(
            numerators.len(),
            denominators.len(),
            "only whole rounds pair"
        );
        let ratios: Vec<f64> = numerators
            .iter()
            .zip(denominators)
            .map(|(numerator, denominator)| numerator / denominator)
            .collect();
        Self::of(&ratios)
    }
}

/// The median of `sample`, which is reordered.
pub(crate) fn median(sample: &mut [f64]) -> f64 {
    Data::new(sample).median()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_sample_has_no_spread() {
        let estimate = Estimate::of(&[3.0; 20]);
        assert_eq!(
            (estimate.low, estimate.median, estimate.high),
            (3.0, 3.0, 3.0)
        );
    }

    #[test]
    fn the_interval_surrounds_the_median_and_stays_within_the_sample() {
        let sample: Vec<f64> = (1..=21).map(f64::from).collect();
        let estimate = Estimate::of(&sample);
        assert_eq!(estimate.median, 11.0);
        assert!(1.0 < estimate.low && estimate.low < 11.0, "{estimate:?}");
        assert!(11.0 < estimate.high && estimate.high < 21.0, "{estimate:?}");
    }

    #[test]
    fn a_few_disturbed_rounds_move_nothing() {
        let mut sample = vec![10.0; 20];
        sample[3] = 900.0;
        sample[11] = 0.1;
        assert_eq!(Estimate::of(&sample).median, 10.0);
    }

    #[test]
    fn the_interval_holds_the_true_median_about_95_times_in_100() {
        let mut rng = fastrand::Rng::with_seed(7);
        let holds = (0..100)
            .filter(|_| {
                let sample: Vec<f64> = (0..25).map(|_| rng.f64()).collect();
                let estimate = Estimate::of(&sample);
                estimate.low <= 0.5 && 0.5 <= estimate.high
            })
            .count();
        assert!((88..=100).contains(&holds), "{holds} of 100");
    }

    #[test]
    fn drift_that_hits_both_cancels_in_the_paired_ratio() {
        let drift: Vec<f64> = (1..=20).map(f64::from).collect();
        let doubled: Vec<f64> = drift.iter().map(|value| 2.0 * value).collect();
        let ratio = Estimate::of_paired_ratio(&doubled, &drift);
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn the_same_sample_gives_the_same_interval() {
        let sample: Vec<f64> = (0..20).map(|i| f64::from(i).sin()).collect();
        assert_eq!(Estimate::of(&sample), Estimate::of(&sample));
    }
}
