//! A rate that is measured now and then while a model is trained.

/// A rate over answers trained on, straight between the measured points.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Points of (answers trained on, rate). None for fewer than two, for figures that are not finite, and where the answers do
    /// not rise.
    pub fn new(points: Vec<(f64, f64)>) -> Option<Curve> {
        let finite = points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let rising = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (points.len() >= 2 && finite && rising).then_some(Curve { points })
    }

    /// The rate before the first update.
    pub fn first(&self) -> f64 {
        self.points[0].1
    }

    /// The answers trained on in all.
    pub fn budget(&self) -> f64 {
        self.points[self.points.len() - 1].0
    }

    /// Answers trained on until the rate is at most `target` for the first time; none: never.
    pub fn until(&self, target: f64) -> Option<f64> {
        if self.first() <= target {
            return Some(self.points[0].0);
        }
        self.points.windows(2).find_map(|pair| {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            (y1 <= target).then(|| x0 + (y0 - target) / (y0 - y1) * (x1 - x0))
        })
    }

    /// The area under the curve divided by its width: the mean rate over the whole training.
    pub fn mean(&self) -> f64 {
        let area: f64 =
            self.points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum();
        area / (self.budget() - self.points[0].0)
    }

    /// The rate after so many answers; that of the nearest end outside.
    pub fn at(&self, x: f64) -> f64 {
        if x <= self.points[0].0 {
            return self.first();
        }
        let inside = self.points.windows(2).find(|pair| x <= pair[1].0);
        inside.map_or(self.points[self.points.len() - 1].1, |pair| {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            y0 + (x - x0) / (x1 - x0) * (y1 - y0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_area_and_places_by_hand() {
        let curve = Curve::new(vec![(0.0, 0.4), (100.0, 0.3), (300.0, 0.1)]).expect("a curve");
        // 0.2 lies half-way between 0.3 and 0.1.
        assert!((curve.until(0.2).expect("reached") - 200.0).abs() < 1e-9);
        assert_eq!(curve.until(0.4), Some(0.0));
        assert_eq!(curve.until(0.05), None);
        // (0.35 · 100 + 0.2 · 200) / 300
        assert!((curve.mean() - 0.25).abs() < 1e-12);
        assert!((curve.at(50.0) - 0.35).abs() < 1e-12);
        assert_eq!((curve.at(-1.0), curve.at(1e9)), (0.4, 0.1));
    }

    #[test]
    fn what_is_no_curve_is_none() {
        assert!(Curve::new(vec![(0.0, 0.4)]).is_none());
        assert!(Curve::new(vec![(0.0, 0.4), (0.0, 0.3)]).is_none());
        assert!(Curve::new(vec![(0.0, 0.4), (1.0, f64::NAN)]).is_none());
    }
}
