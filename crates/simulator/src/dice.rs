//! What looks random here: numbers derived from a seed and from what they are for.
//!
//! A tree, not a stream: what happens to one person hangs on the seed and that person's name alone, so that adding a person, or a
//! question, changes no other answer. Deliberately absent: a state that draws advance.

/// A branch of the tree. Asking it the same thing twice gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dice {
    key: u64,
}

impl Dice {
    /// The root of a seed's tree.
    pub fn new(seed: u64) -> Self {
        Self { key: mix(seed ^ 0x6472_756d_6265_6174) }
    }

    /// The branch of a thing.
    pub fn of(self, thing: &str) -> Self {
        let folded =
            thing.bytes().fold(self.key, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { key: mix(folded) }
    }

    /// The branch of the how-manieth thing.
    pub fn nth(self, position: usize) -> Self {
        Self { key: mix(self.key.wrapping_add(mix(position as u64 + 1))) }
    }

    /// A number below `end`; 0 where `end` is.
    pub fn below(self, end: u64) -> u64 {
        self.key.checked_rem(end).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    pub fn between(self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// Whether something happens that does so in so many cases of a hundred.
    pub fn chance(self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these, which are not none.
    pub fn pick<T>(self, all: &[T]) -> &T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap_or(0)]
    }
}

/// The finisher of splitmix64: every bit of the input moves every bit of the output.
fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_hangs_on_the_seed_and_the_question_alone() {
        let dice = Dice::new(7);
        assert_eq!(dice.of("ana").nth(3).below(1_000), dice.of("ana").nth(3).below(1_000));
        assert_ne!(dice.of("ana"), dice.of("ben"));
        assert_ne!(Dice::new(7), Dice::new(8));
    }

    #[test]
    fn chances_are_about_as_often_as_they_say() {
        let hits = (0..10_000).filter(|position| Dice::new(1).nth(*position).chance(30)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
    }
}
