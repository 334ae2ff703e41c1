//! The breaker of a destination: where most tries fail for a cause that has nothing to do with the message, the next ones are not made.
//! Rows wait, and no attempt of theirs is burnt. After a pause a few probe whether it is over.

use std::collections::VecDeque;

use jiff::SignedDuration;

/// So many tries are looked at.
const WINDOW: usize = 100;
/// And at least so many before it may open.
const TRIES_MIN: usize = 20;
/// So many must succeed before it closes.
const PROBES: u32 = 5;
/// It stays open for so long.
pub const BREAKER_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// What is known of a destination.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// The last tries, oldest first: whether each failed.
    tries: VecDeque<bool>,
    /// Probes that are still to succeed; 0: it is closed.
    probes: u32,
}

impl Breaker {
    /// One more try. `Some`: it opens, for [`BREAKER_PAUSE`]; so many of how many failed.
    pub fn tried(&mut self, failed: bool) -> Option<(usize, usize)> {
        if self.probes > 0 {
            if failed {
                self.probes = PROBES;
                return Some((1, 1));
            }
            self.probes -= 1;
            return None;
        }
        self.tries.push_back(failed);
        if self.tries.len() > WINDOW {
            self.tries.pop_front();
        }
        let (many, of) = (self.tries.iter().filter(|failed| **failed).count(), self.tries.len());
        if of < TRIES_MIN || many * 2 < of {
            return None;
        }
        self.tries.clear();
        self.probes = PROBES;
        Some((many, of))
    }

    /// How many tries may be made at once; `None`: any number.
    pub fn allows(&self) -> Option<u32> {
        (self.probes > 0).then_some(self.probes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a row of tries (`.` good, `x` failed), where it opens.
    fn opens(tries: &str) -> Vec<usize> {
        let mut breaker = Breaker::default();
        let tried = tries.chars().map(|one| breaker.tried(one == 'x').is_some()).collect::<Vec<_>>();
        (0..tried.len()).filter(|at| tried[*at]).collect()
    }

    #[test]
    fn it_opens_when_half_of_the_last_tries_failed_and_there_were_twenty() {
        assert_eq!(opens(&"x".repeat(19)), Vec::<usize>::new());
        assert_eq!(opens(&"x".repeat(20)), [19]);
        assert_eq!(opens(&".x".repeat(10)), [19]);
        assert_eq!(opens(&"..x".repeat(100)), Vec::<usize>::new());
        let long_good = format!("{}{}", ".".repeat(1_000), "x".repeat(50));
        assert_eq!(opens(&long_good), [1_049], "of the last hundred");
    }

    #[test]
    fn five_good_probes_close_it_and_a_bad_one_opens_it_again() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.tried(true);
        }
        assert_eq!(breaker.allows(), Some(5));
        assert_eq!((breaker.tried(false), breaker.allows()), (None, Some(4)));
        assert!(breaker.tried(true).is_some());
        assert_eq!(breaker.allows(), Some(5));
        for _ in 0..5 {
            assert_eq!(breaker.tried(false), None);
        }
        assert_eq!(breaker.allows(), None);
        assert_eq!(breaker.tried(true), None, "what was before is forgotten");
    }
}
