//! What is printed.

/// The bound of a ratio.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound}"),
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::None => String::new(),
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        let held = match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::None => return "",
        };
        if held { "held" } else { "missed" }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The one in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values);
    values[values.len() / 2]
}

/// One row of ratios ours : peer's, of rounds.
pub fn ratio(what: &str, bound: Bound, unit: &str, rounds: &[(f64, f64)]) {
    let ratios = sorted(rounds.iter().map(|(ours, peer)| ours / peer));
    let middle = ratios[ratios.len() / 2];
    println!(
        "| {what} | {middle:.3} | {:.3} – {:.3} | {} | {} | {:.0} {unit} | {:.0} {unit} |",
        ratios[0],
        ratios[ratios.len() - 1],
        bound.text(),
        bound.verdict(middle),
        median(rounds.iter().map(|(ours, _)| *ours)),
        median(rounds.iter().map(|(_, peer)| *peer)),
    );
}

/// One row of a figure by itself.
pub fn figure(what: &str, value: f64, unit: &str, bound: Bound) {
    println!("| {what} | {value:.1} {unit} | {} | {} |", bound.text(), bound.verdict(value));
}
